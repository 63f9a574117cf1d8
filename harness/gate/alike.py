"""From a stored run with two like arms to a calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.core.errors import UsageError, VoidRuns, known
from harness.core.findings import Kind, counted, found
from harness.gate.calibration import Alarms, Calibration, calibrate, false_alarms
from harness.gate.checks import refusals, usable
from harness.results import Measurement
from harness.stats import requests_least

METRICS = ("mean", "p50", "p90", "p95")
MARGINS = (0.01, 0.02, 0.05, 0.10)
"""At which false alarms are counted."""
GATE_PAIRS = 6
"""Of the gates whose false alarms are counted: the fewest pairs whose bounds assume no distribution at 2.5%."""


def like_arms(measurement: Measurement, arm: str | None = None) -> tuple[str, str]:
    """The first two arms of ``measurement`` with the same engine and options; of those like ``arm`` where it is given.

    Raises UsageError if there are none.
    """
    there = [str(name) for name in measurement.requests["arm"].dropna().unique()]
    if arm is not None and arm not in there:
        raise known(f"arm of {measurement.path.name}", arm, there)
    for first in [arm] if arm else there:
        for second in there:
            if second != first and _alike(measurement, first, second):
                return first, second
    what = f"no second arm like '{arm}'" if arm else "no two like arms"
    first = arm or (there[0] if there else "ARM")
    raise UsageError(
        f"{measurement.path.name} has {what}; measure A against A with `ttft calibrate --arm {first}`, "
        f"or in a comparison with --arm {first} --arm {first}@again"
    )


def _alike(measurement: Measurement, first: str, second: str) -> bool:
    """By what stands before the label, or else by engine and options in run.json, where defaults are written out."""
    if first.partition("@")[0] == second.partition("@")[0]:
        return True
    told = {str(arm.get("name")): arm for arm in measurement.meta.get("arms") or () if isinstance(arm, Mapping)}
    ours, theirs = ((told.get(name, {}).get("engine"), told.get(name, {}).get("options")) for name in (first, second))
    return None not in ours and ours == theirs


def calibrate_run(
    measurement: Measurement,
    base: str,
    again: str,
    metrics: Sequence[str] = (),
    alpha: float = 0.05,
    gate_pairs: int = GATE_PAIRS,
) -> Calibration:
    """Noise floors and false alarms from two like arms of a stored run.

    ``metrics`` left out are those of METRICS for which the runs have requests enough. Raises VoidRuns if the
    rows must not be compared, UsageError for too few pairs, an unknown metric, or one that the runs are too short for.
    """
    rows, notes = usable(measurement)
    reasons = refusals(measurement, rows, (base, again))
    if reasons:
        more = f" (and {counted(len(reasons) - 1, 'more reason')})" if len(reasons) > 1 else ""
        raise VoidRuns(f"nothing can be learned from {measurement.path.name}: {reasons[0]}{more}")
    sound = measurement.counted[measurement.counted["arm"].isin([base, again])]
    smallest = int(sound.groupby("run").size().min()) if len(sound) else 0
    for metric in metrics:
        if smallest < requests_least(metric):
            raise UsageError(f"{metric} needs at least {requests_least(metric)} requests per run, the shortest has {smallest}")
    chosen = list(metrics) or [metric for metric in METRICS if smallest >= requests_least(metric)]
    left_out = [metric for metric in METRICS if not metrics and metric not in chosen]
    if left_out:
        notes.append(found(Kind.METRICS_LEFT_OUT, smallest=smallest, metrics=tuple(left_out)))
    calibration = calibrate(sound, base, again, chosen, alpha, meta=measurement.meta)
    alarms = tuple(
        Alarms(metric, margin, gate_pairs, false_alarms(sound, base, again, metric, margin, gate_pairs, alpha))
        for metric in chosen
        for margin in MARGINS
    )
    return replace(calibration, alarms=alarms, run=measurement.path.name, warnings=(*map(str, notes), *calibration.warnings))


class BudgetWatch:
    """Ends an experiment before the round that would go beyond a budget. ``budget`` has ``seconds`` and ``left``."""

    needs_all = True

    def __init__(self, budget: Any | None) -> None:
        self._budget = budget
        self._before: float | None = None
        self._longest = 0.0

    @property
    def declared(self) -> Mapping[str, Any]:
        """The budget."""
        return {"budget_s": self._budget.seconds} if self._budget else {}

    def after_round(self, rounds: int) -> str | None:
        """Whether another round as long as the longest so far still fits."""
        if self._budget is None:
            return None
        left = self._budget.left
        if self._before is not None:
            self._longest = max(self._longest, self._before - left)
        self._before = left
        if self._longest <= left:
            return None
        return f"the budget is spent after {rounds} rounds"
