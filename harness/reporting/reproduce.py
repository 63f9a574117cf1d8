"""Everything needed to make a measurement again, as text: its name, the command, and what was where."""

from collections.abc import Mapping
from typing import Any

from harness.core.text import printable, without_secrets
from harness.results.evidence import Evidence


def title(evidence: Evidence) -> str:
    """The heading of a report: the measurement's name, and the day on which it was made."""
    meta = evidence.run.meta
    day = str(meta.get("started") or "").partition("T")[0]
    return printable(f"Time to first token: {meta.get('id') or evidence.run.path.name}" + (f", {day}" if day else ""))


def command(evidence: Evidence) -> str:
    """The command line, without secrets."""
    return printable(without_secrets(evidence.run.meta.get("command") or "unknown"))


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and value of what run.json tells beside the settings, without secrets; what it doesn't tell is skipped."""
    meta = evidence.run.meta
    known: list[tuple[str, Any]] = [
        ("run", meta.get("id")),
        *((name, meta.get(name)) for name in ("status", "started", "ended")),
        *((name, meta.get(name)) for name in ("geometry", "versions", "machine", "binding", "server", "correctness")),
        ("data", {key: value for key, value in (meta.get("data") or {}).items() if key != "notes"}),
    ]
    return [(name, _fact(value)) for name, value in known if value not in (None, "", {}, [])]


def settings(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and value of each setting, without secrets."""
    config = (evidence.run.meta.get("config") or {}).items()
    known = [(name, evidence.setting(name, "") if name == "store" else value) for name, value in config]
    return [(name, _fact(value)) for name, value in known if value not in (None, "", [], {})]


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list | tuple):
        return " and ".join(_fact(item) for item in value)
    return without_secrets(value)
