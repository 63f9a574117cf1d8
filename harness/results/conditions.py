"""Whether two stored measurements were made under the same conditions.

Two machines of one kind in a cloud are never equal to the byte: what cannot decide a time is compared with tolerance.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.findings import Finding, Kind, found
from harness.core.renamed import store_today

SETTINGS = (
    "workload", "store", "model", "dtype", "max_model_len", "chunk_tokens", "kv_cache_gib", "layout", "cache_state", "page_cache",
    "concurrency", "neighbours", "probe_every_s", "arrivals", "tensor_parallel", "load_failure_policy", "target", "vllm",
)  # fmt: skip
"""What of run.json's ``config`` decides how long a request takes."""

ADDED = {"layout": "chunk", "neighbours": 0, "probe_every_s": 0.0, "target": ""}
"""What it meant before there was such a setting, for older files."""

GIB = 1 << 30
SLIGHT = {("machine", "kernel")}
"""What may differ with a warning."""


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

    Our own version may differ: it is what a gate is for. So may what ``slight_differences`` tells. ``same_machine`` False
    skips the machine, its binding and the versions, for ratios that each run measured against a control of its own.
    """
    return [
        Difference(part, name, _shown(left), _shown(right))
        for part, name, left, right in _conditions(ours, theirs, same_machine)
        if left != right and not _slight(part, name, left, right)
    ]


def slight_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """What is to be read beside a comparison and does not forbid it: another kernel, another build of the same version."""
    return [
        Difference(part, name, _shown(left), _shown(right))
        for part, name, left, right in _conditions(ours, theirs, True)
        if left != right and _slight(part, name, left, right) and not _same_memory(name, left, right)
    ]


def _conditions(ours: Mapping[str, Any], theirs: Mapping[str, Any], same_machine: bool) -> Iterable[tuple[str, str, Any, Any]]:
    """Part, name and the two values of everything that decides a time."""
    pairs: list[tuple[str, str, Any, Any]]
    pairs = [("data", "fingerprint", _part(ours, "data").get("fingerprint"), _part(theirs, "data").get("fingerprint"))]
    pairs += [("setting", name, _setting(ours, name), _setting(theirs, name)) for name in SETTINGS]
    for part in ("machine", "versions", "binding") if same_machine else ():
        left, right = _part(ours, part), _part(theirs, part)
        names = sorted({*left, *right} - ({"ttft"} if part == "versions" else set()))
        pairs += [(part, name, left.get(name), right.get(name)) for name in names]
    return pairs


def _slight(part: str, name: str, left: object, right: object) -> bool:
    """Whether two unequal values are as good as equal, or differ by no more than a kernel or a build."""
    if (part, name) in SLIGHT:
        return True
    if part == "machine":
        return _same_memory(name, left, right) or (name == "nvidia_driver" and _driver(left) == _driver(right) is not None)
    return part == "versions" and _release(name, left) == _release(name, right) is not None


def _same_memory(name: str, left: object, right: object) -> bool:
    """Whether both have the same memory in whole GiB. Half a GiB apart at most, so that no boundary lies between twins."""
    return name == "memory_bytes" and isinstance(left, int) and isinstance(right, int) and abs(left - right) < GIB // 2


def _driver(said: object) -> str | None:
    """The version in what an NVIDIA driver says of itself, which also names the day on which it was built."""
    version = re.search(r"\b\d{3,4}\.\d+(\.\d+)?\b", str(said))
    return version[0] if version else None


def _release(name: str, version: object) -> str | None:
    """A version without its build: Python without the third number, packages up to the kind of their build (``+cpu``)."""
    if not isinstance(version, str):
        return None
    if name == "python":
        return ".".join(version.split(".")[:2])
    public, plus, build = version.partition("+")
    return public + plus + re.split(r"[.\-_]", build)[0]


def identity(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What of run.json's ``machine`` tells two kinds of machine apart: memory in whole GiB, no kernel, a driver's version."""
    memory, known = machine.get("memory_bytes"), {**machine}
    if isinstance(memory, int):
        known["memory_bytes"] = round(memory / GIB) * GIB
    if "nvidia_driver" in known:
        known["nvidia_driver"] = _driver(known["nvidia_driver"])
    return {name: value for name, value in known.items() if ("machine", name) not in SLIGHT}


def misfit(theirs: Mapping[str, Any], meta: Mapping[str, Any]) -> str | None:
    """Why a calibration made under ``theirs`` (run.json's machine, versions and config) says nothing about a run:
    the first condition that both tell and that differs; None if it fits."""
    for part in ("machine", "versions", "config"):
        told, here = _part(theirs, part), _part(meta, part)
        names = SETTINGS if part == "config" else sorted({*told, *here} - {"ttft"})
        for name in names if told and here else ():
            before = ADDED.get(name) if part == "config" else None
            left, right = (_today(name, one.get(name, before)) for one in (told, here))
            if left != right and not _slight(part, name, left, right):
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
    return _today(name, _part(meta, "config").get(name, ADDED.get(name)))


def _today(name: str, value: object) -> object:
    """A setting as it would be written now."""
    return store_today(value) if name == "store" and isinstance(value, str) else value


def _part(meta: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = meta.get(name)
    return part if isinstance(part, Mapping) else {}


def _shown(value: object) -> str:
    return "not given" if value is None else f"'{value}'"
