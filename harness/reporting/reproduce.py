"""Everything needed to make a run again, as text: the command, and what was where."""

from collections.abc import Mapping
from typing import Any

from harness.core.text import printable, without_secrets
from harness.results.evidence import Evidence


def command(evidence: Evidence) -> str:
    """The command line, without secrets."""
    return printable(without_secrets(evidence.run.meta.get("command") or "unknown"))


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What and value of all that run.json tells, without secrets; what it doesn't tell is left out."""
    meta = evidence.run.meta
    known: list[tuple[str, Any]] = [
        ("run", meta.get("id")),
        ("status", meta.get("status")),
        ("started", meta.get("started")),
        ("ended", meta.get("ended")),
        ("store", evidence.setting("store")),
        ("config", {k: v for k, v in (meta.get("config") or {}).items() if k != "store"}),
        *((name, meta.get(name)) for name in ("geometry", "versions", "machine", "binding", "server", "correctness")),
        ("data", {k: v for k, v in (meta.get("data") or {}).items() if k != "notes"}),
    ]
    return [(name, _fact(value)) for name, value in known if value not in (None, "", {})]


def settings(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and value of each setting of the run, without secrets."""
    config = evidence.run.meta.get("config") or {}
    return [(name, _fact(value)) for name, value in config.items() if value not in (None, "", [], {})]


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list | tuple):
        return " and ".join(_fact(item) for item in value)
    return without_secrets(value)
