"""What choosing costs: at each point the arm ``auto`` over the best of the arms whose way is fixed."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import ResultsError
from harness.core.findings import counted
from harness.core.table import Cell, Table
from harness.reporting.sweep.table import Measured
from harness.reporting.wording import compared, ratio
from harness.stats import Comparison, compare

CHOOSES = "auto"
"""The engine that chooses between the ways of the others."""

NEAR = 1.05
"""A ratio that counts as near the best."""

HOW = (
    "Best is the fixed arm with the lowest centre at that point. The luckiest of several is lower than it would be if it were "
    "measured again, so the ratio is rather too high than too low."
)


@dataclass(frozen=True, slots=True)
class Regret:
    """``arm`` over ``best`` at a point of the sweep, in its rounds."""

    point: Measured
    arm: str
    best: str
    found: Comparison


def regrets(points: Sequence[Measured], metric: str) -> list[Regret]:
    """One for each point and choosing arm that can be compared with a fixed one."""
    found = []
    for point in points:
        arms = [arm for arm in point.summary.measured if metric in arm.ttft]
        fixed = [arm for arm in arms if arm.arm.engine != CHOOSES]
        if not fixed:
            continue
        best = min(fixed, key=lambda arm: arm.ttft[metric].value).arm.name
        for arm in (arm.arm.name for arm in arms if arm.arm.engine == CHOOSES):
            try:
                found.append(Regret(point, arm, best, compare(point.rows, best, arm, [metric])[0]))
            except ResultsError:  # no round has a run of both
                continue
    return found


def regret_table(found: Sequence[Regret]) -> Table:
    """A row a point and choosing arm."""
    keys = list(found[0].point.values)
    rows = [[*map(Cell, one.point.values.values()), Cell(one.arm), Cell(one.best), compared(one.found)] for one in found]
    return Table("What choosing costs", [*keys, "arm", "best fixed arm", "arm / best (95%)"], rows, left=len(keys) + 2)


def sentence(found: Sequence[Regret]) -> str:
    """All points in one sentence."""
    near = sum(one.found.ratio <= NEAR for one in found)
    worst = max(found, key=lambda one: one.found.ratio)
    at = ", ".join(f"{key}={value}" for key, value in worst.point.values.items())
    return (
        f"{worst.arm} takes at most {ratio(NEAR)} of the best fixed arm's time at {near} of {counted(len(found), 'point')}; "
        f"the most is {ratio(worst.found.ratio)}, at {at}"
    )
