"""The crossings of a sweep: along every axis of numbers, between arms of different engines and with the first arm."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.errors import ResultsError
from harness.experiment.sweep.axes import Axis
from harness.experiment.sweep.grid import Grid, arm_values
from harness.experiment.sweep.settings import straight_along
from harness.reporting.figures.style import three_digits as plain
from harness.reporting.sweep.crossing import Crossing, crossing
from harness.reporting.sweep.table import Measured, arms_in
from harness.results.evidence import Arm
from harness.stats import compare

FEW_ARMS = 8
"""With more arms each is compared with the first one only."""

Series = list[tuple[float, float, float, float]]
"""Value of the axis, the lead of the candidate there and its bounds: below 0 it is faster."""


@dataclass(frozen=True, slots=True)
class Found:
    """A crossing along ``axis`` at ``elsewhere``, the values of the other axes.

    ``values`` are those with both arms; ``straight`` is what may run straight between them, times or ratios, or empty.
    """

    axis: str
    elsewhere: Mapping[str, str]
    metric: str
    base: str
    candidate: str
    values: tuple[float, ...]
    straight: str
    crossing: Crossing

    @property
    def sentence(self) -> str:
        """The whole sentence, without a full stop."""
        where = "".join(f", at {key}={value}" for key, value in self.elsewhere.items())
        return f"{self.candidate} against {self.base}{where}: {self.finding}"

    @property
    def finding(self) -> str:
        """The sentence without the arms and the place."""
        c, grid = self.crossing, f"{self.axis} {plain(self.values[0])} to {plain(self.values[-1])}"
        leads = ("faster", "even", "slower")
        unsure = f", no difference shown at {', '.join(map(plain, c.open))}" if c.open else ""
        if c.kind in ("one", "several"):
            times = "" if c.kind == "one" else f" {len(c.between)} times:"
            where = ", ".join(f"between {plain(low or 0.0)} and {plain(high or 0.0)}{self._near(place)}"
                              for (low, high), place in zip(c.between, c.places, strict=True))  # fmt: skip
            ends = [value for value in self.values if value not in c.open]
            sides = f"{self.candidate} is {leads[c.before + 1]} at {plain(ends[0])} and {leads[c.after + 1]} at {plain(ends[-1])}"
            return f"the lead changes{times} along {self.axis} {where}; {sides}{unsure}"
        if c.kind == "seems":
            (low, high), verb = c.between[0], "the lead seems to change"
            below, above = ("seems" if end is None else "is" for end in (low, high))
            place = "" if low is high else f" above {plain(low)}" if low is not None else f" below {plain(high or 0.0)}"
            sides = f"{self.candidate} {below} {leads[c.before + 1]} below and {above} {leads[c.after + 1]} above"
            return f"{verb} along {self.axis}{place}{self._near(c.places[0])}; {sides}{unsure}"
        if c.before == 0:
            return f"no difference was measured at any value of {grid}"
        if not c.open:
            return f"no crossing from {grid}: it is {leads[c.before + 1]} at every value, so one would lie outside the grid"
        return (
            f"no crossing was seen from {grid}, where it seems {leads[c.before + 1]} throughout, "
            f"but the ratio's interval includes 1 at {', '.join(map(plain, c.open))}: one may lie near, or outside the grid"
        )

    def _near(self, place: float) -> str:
        return f", near {plain(place)} if {self.straight} run straight there" if self.straight else ""


def crossings(grid: Grid, points: Sequence[Measured], metric: str) -> list[Found]:
    """One for each axis of numbers, pair of arms and combination of the other axes' values that has two values or more."""
    found = []
    for axis in grid.axes:
        if axis.numbers is None:
            continue
        series = _along_points(axis, grid, points, metric) if axis in grid.point_axes else _along_arms(axis, grid, points, metric)
        for (base, candidate, elsewhere), values in series:
            # Of labelled twins the first.
            values = sorted({one[0]: one for one in values[::-1] if math.isfinite(one[1])}.values())
            if len(values) < 2:
                continue
            at, leads, lows, highs = zip(*values, strict=True)
            straight = straight_along(axis)
            place = crossing(at, leads, lows, highs, by_log=straight == "ratios")
            found.append(Found(axis.key, elsewhere, metric, base, candidate, at, straight, place))
    return found


def sentences(found: Sequence[Found]) -> list[str]:
    """One sentence each; pairs that have none along an axis at several values of the others share one sentence."""
    groups: dict[tuple[str, str, str, int], list[Found]] = {}
    for one in found:
        outside = one.crossing.kind == "none" and not one.crossing.open
        groups.setdefault((one.axis, one.base, one.candidate, one.crossing.before if outside else id(one)), []).append(one)
    ordered = sorted(groups.values(), key=lambda group: group[0].crossing.kind == "none")  # those that cross come first
    return [_of_all(group, found) if len(group) > 1 else group[0].sentence for group in ordered]


def _of_all(group: Sequence[Found], found: Sequence[Found]) -> str:
    """One sentence for several that are alike except for the values of the other axes."""
    first = group[0]
    keys, about = list(first.elsewhere), (first.axis, first.base, first.candidate)
    if len(group) == sum((one.axis, one.base, one.candidate) == about for one in found):
        where = f", whatever {' and '.join(keys)} is"
    elif len(keys) == 1:
        where = f", at {keys[0]}={', '.join(one.elsewhere[keys[0]] for one in group)}"
    else:
        where = f", at {len(group)} combinations of {' and '.join(keys)}"
    return f"{first.candidate} against {first.base}{where}: {first.finding}"


Place = tuple[str, str, Mapping[str, str]]


def _along_points(axis: Axis, grid: Grid, points: Sequence[Measured], metric: str) -> Iterator[tuple[Place, Series]]:
    others = [other.key for other in grid.point_axes if other is not axis]
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for point in points:
        groups.setdefault(tuple(point.values[key] for key in others), []).append(point)
    for (base, candidate), (elsewhere, group) in itertools.product(pairs_of(arms_in(points)), groups.items()):
        lead = difference if straight_along(axis) == "times" else log_ratio
        leads = [(float(point.values[axis.key]), lead(point, base.name, candidate.name, metric)) for point in group]
        series = [(value, *one) for value, one in leads if one is not None]
        yield (base.name, candidate.name, dict(zip(others, elsewhere, strict=True))), series


def _along_arms(axis: Axis, grid: Grid, points: Sequence[Measured], metric: str) -> Iterator[tuple[Place, Series]]:
    """Along an option of an engine: its arms against each arm of the other engines."""
    arms = [arm for arm in arms_in(points) if not arm.bound]
    families: dict[str, list[tuple[float, Arm]]] = {}
    for arm in arms:
        values = arm_values(arm.name, grid.arm_axes)
        if axis.key in values:
            rest = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items() if key != axis.key)
            families.setdefault(f"{arm.engine}:{rest}" if rest else arm.engine, []).append((float(values[axis.key]), arm))
    others = [arm for arm in arms if arm.engine != axis.owner]
    for point, other, (name, family) in itertools.product(points, others, families.items()):
        series = [(value, *ratio) for value, arm in family if (ratio := log_ratio(point, other.name, arm.name, metric))]
        yield (other.name, name, point.values), series


def pairs_of(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Base and candidate: the first arm with every other, and arms of different engines with each other."""
    measured = [arm for arm in arms if not arm.bound]
    found = [(measured[0], arm) for arm in measured[1:]]
    if len(measured) <= FEW_ARMS:
        found += [(a, b) for a, b in itertools.combinations(measured[1:], 2) if a.engine != b.engine]
    return found


def log_ratio(point: Measured, base: str, candidate: str, metric: str) -> tuple[float, float, float] | None:
    """The log ratio of the two arms at a point with its 95% bounds; None if no round has both."""
    there = set(point.rows["arm"].unique())
    if base not in there or candidate not in there:
        return None
    try:
        found = compare(point.rows, base, candidate, [metric])[0]
    except ResultsError:
        return None
    low = math.log(found.low) if found.low > 0 else -math.inf
    return math.log(found.ratio), low, float(np.log(found.high))


def difference(point: Measured, base: str, candidate: str, metric: str) -> tuple[float, float, float] | None:
    """The candidate's time less the base's, with its 95% bounds; None if no round has both.

    It is their ratio less 1, times the centre of the base's runs: it has the ratio's sign, and its bounds have theirs.
    """
    ratio = log_ratio(point, base, candidate, metric)
    scale = next((arm.ttft[metric].value for arm in point.summary.arms if arm.arm.name == base and metric in arm.ttft), None)
    if ratio is None or scale is None:
        return None
    middle, low, high = ratio
    return scale * math.expm1(middle), -math.inf if math.isinf(low) else scale * math.expm1(low), scale * float(np.expm1(high))
