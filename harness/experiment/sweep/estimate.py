"""How long what is left will take, and what that rests on: points of this sweep, else earlier runs, else an assumption."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from harness.experiment import record as environment
from harness.experiment.plan import Setting
from harness.experiment.sweep.planning import Plan
from harness.experiment.sweep.state import State
from harness.results.conditions import identity

START_S, REQUEST_S = 30.0, 1.0
"""Assumed if nothing like it was measured: a start of vLLM, and a request with what lies around it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds for all that is left. ``basis`` ends the sentence "resting on ..."."""

    seconds: float
    basis: str

    @property
    def text(self) -> str:
        """One line."""
        return f"about {duration(self.seconds)}, resting on {self.basis}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(plan: Plan, state: State) -> Estimate:
    """Of the points that are not finished."""
    left = [planned for planned in plan.points if not state.of(planned.point.number).finished]
    starts = len({planned.start for planned in left})
    own = _own(plan, state)
    if own is not None:
        return Estimate(starts * own[0] + sum(planned.requests for planned in left) * own[1], own[2])
    requests = sum(planned.requests for planned in left)
    return _by_others(starts, requests, {planned.point.experiment.model for planned in left}, state.folder)


def estimate_of(setting: Setting, folder: Path) -> Estimate:
    """Of one measurement into ``folder`` with all of its rounds."""
    peers = len(setting.peers)
    starts = (peers + (peers < len(setting.arms)) or 1) + setting.proves_apart
    runs = len(setting.planned_runs)
    # Priming and warming up are requests too, if not timed ones.
    untimed = len(setting.heads) + setting.experiment.warmup * len(setting.arms)
    starts = 0 if setting.experiment.target else starts
    found = _by_others(starts, runs * len(setting.data.prompts) + untimed, {setting.experiment.model}, folder)
    lasting = runs * max(setting.times) if setting.times else 0.0
    return Estimate(max(found.seconds, starts * START_S + lasting), found.basis)


def _by_others(starts: int, requests: int, models: set[str], folder: Path) -> Estimate:
    """By earlier runs beside ``folder``, else by an assumption."""
    earlier = _earlier_runs(models, folder)
    if earlier:
        basis = f"{len(earlier)} earlier run{'s' if len(earlier) > 1 else ''} of this model in {folder.parent}, of which "
        return Estimate(starts * START_S + requests * median(earlier), basis + f"{START_S:.0f} s are taken for the start")
    return Estimate(
        starts * START_S + requests * REQUEST_S,
        f"an assumption, {START_S:.0f} s per start and {REQUEST_S:g} s per request: nothing like it was measured here yet",
    )


def _own(plan: Plan, state: State) -> tuple[float, float, str] | None:
    """Seconds per start and per request, by the points that are finished."""
    starts, rates = [], []
    for planned in plan.points:
        progress = state.of(planned.point.number)
        if progress.finished and progress.wall_s is not None and planned.requests:
            started = progress.starting_s or 0.0
            starts += [started] if started else []
            rates.append(max(progress.wall_s - started, 0.0) / planned.requests)
    if not rates:
        return None
    basis = "the 1 point of this sweep that is measured" if len(rates) == 1 else f"the {len(rates)} points that are measured"
    return median(starts) if starts else START_S, median(rates), basis


def _earlier_runs(models: set[str], folder: Path) -> list[float]:
    """Seconds per request of complete runs beside ``folder`` with one of these models, on a machine like this one."""
    found: list[float] = []
    here = identity(environment.machine())
    for path in sorted(folder.parent.glob("*/run.json")):
        meta = _meta(path)
        config = meta.get("config") or {}
        named = str(config.get("model") or "")
        if meta.get("status") != "complete" or meta.get("resumed"):
            continue
        if not isinstance(meta.get("machine"), dict) or identity(meta["machine"]) != here:
            continue
        if named in models or ("builtin" in models and named.startswith("builtin")):
            found += _rate(meta, path.with_name("requests.csv"))
    return found


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _rate(meta: dict[str, Any], requests: Path) -> Iterable[float]:
    try:
        lasted = (datetime.fromisoformat(str(meta["ended"])) - datetime.fromisoformat(str(meta["started"]))).total_seconds()
        with requests.open("rb") as file:
            rows = sum(1 for _ in file) - 1
    except (KeyError, TypeError, ValueError, OSError):  # TypeError: one time has a zone, the other none
        return []
    return [max(lasted - START_S, 0.1 * lasted) / rows] if rows > 0 and lasted > 0 else []
