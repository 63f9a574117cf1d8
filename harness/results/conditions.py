"""Whether two stored measurements were made under the same conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.findings import Finding, Kind, found

SETTINGS = (
    "workload", "store", "model", "dtype", "max_model_len", "chunk_tokens", "kv_cache_gib", "layout", "cache_state", "page_cache",
    "concurrency", "neighbours", "probe_every_s", "arrivals", "tensor_parallel", "load_failure_policy", "target", "vllm",
)  # fmt: skip
"""What of run.json's ``config`` decides how long a request takes."""

ADDED = {"layout": "chunk", "neighbours": 0, "probe_every_s": 0.0, "target": ""}
"""What it meant before there was such a setting, for older files."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One condition that two measurements do not share. ``part``: data, setting, machine, versions or binding."""

    part: str
    name: str
    ours: str
    theirs: str

    @property
    def what(self) -> str:
        """The condition in words: ``setting 'concurrency'``."""
        return f"data {self.name}" if self.part == "data" else f"{self.part} '{self.name}'"

    def __str__(self) -> str:
        """Without saying which measurement is which."""
        return f"{self.what} is {self.ours} in one run and {self.theirs} in the other"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], same_machine: bool = True) -> list[Difference]:
    """What two run.json do not share; empty if the measurements may be set against each other.

    Our own version may differ: it is what a gate is for. ``same_machine`` False skips the machine, its
    binding and the versions, for ratios that each run measured against a control of its own.
    """
    pairs = [("data", "fingerprint", _part(ours, "data").get("fingerprint"), _part(theirs, "data").get("fingerprint"))]
    pairs += [("setting", name, _setting(ours, name), _setting(theirs, name)) for name in SETTINGS]
    for part in ("machine", "versions", "binding") if same_machine else ():
        left, right = _part(ours, part), _part(theirs, part)
        names = sorted({*left, *right} - ({"ttft"} if part == "versions" else set()))
        pairs += [(part, name, left.get(name), right.get(name)) for name in names]
    return [Difference(part, name, _shown(left), _shown(right)) for part, name, left, right in pairs if left != right]


def misfit(theirs: Mapping[str, Any], meta: Mapping[str, Any]) -> str | None:
    """Why a calibration made under ``theirs`` (run.json's machine, versions and config) says nothing about a run:
    the first condition that both tell and that differs; None if it fits."""
    for part in ("machine", "versions", "config"):
        told, here = _part(theirs, part), _part(meta, part)
        names = SETTINGS if part == "config" else sorted({*told, *here} - {"ttft"})
        for name in names if told and here else ():
            before = ADDED.get(name) if part == "config" else None
            if told.get(name, before) != here.get(name, before):
                what = f"setting '{name}'" if part == "config" else f"{part} '{name}'"
                return f"its {what} is {_shown(told.get(name))} and the run's {_shown(here.get(name))}"
    return None


def unknown_parts(*metas: Mapping[str, Any]) -> list[Finding]:
    """What no run.json says, so that equality could not be checked."""
    return [
        found(Kind.CONDITION_UNKNOWN, part)
        for part in ("machine", "versions", "data")
        if not all(_part(meta, part) for meta in metas)
    ]


def _setting(meta: Mapping[str, Any], name: str) -> object:
    return _part(meta, "config").get(name, ADDED.get(name))


def _part(meta: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = meta.get(name)
    return part if isinstance(part, Mapping) else {}


def _shown(value: object) -> str:
    return "not given" if value is None else f"'{value}'"
