"""Points and arms: every combination of the values. Values of an engine's options become arms of one point, all others points."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from harness.core.errors import UsageError
from harness.core.options import split_spec
from harness.experiment.dotted import with_arm_option, with_value
from harness.experiment.settings import Experiment, merge
from harness.experiment.sweep.axes import Axis
from harness.experiment.sweep.settings import check_key, is_arm_axis

MOST_POINTS, MOST_ARMS = 1000, 64


@dataclass(frozen=True, slots=True)
class Point:
    """One experiment of the grid. ``number`` counts from 1; ``values`` has a text for each axis that makes points."""

    number: int
    values: Mapping[str, str] = field(hash=False)
    experiment: Experiment = field(hash=False)

    @property
    def text(self) -> str:
        """``concurrency=4, store.latency_ms=2``; for a grid of arms only, ``all arms``."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "all arms"

    @property
    def folder(self) -> str:
        """The name of its folder below ``points/``."""
        safe = re.sub(r"[^A-Za-z0-9._=-]+", "-", "-".join(f"{key}={value}" for key, value in self.values.items()))
        return f"{self.number:02d}-{safe[:60].strip('-') or 'all'}"


@dataclass(frozen=True, slots=True)
class Grid:
    """A whole sweep as asked for: ``base`` is the experiment before anything is varied."""

    base: Experiment
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]

    @property
    def point_axes(self) -> tuple[Axis, ...]:
        """The axes whose values are points."""
        return tuple(axis for axis in self.axes if not is_arm_axis(axis))

    @property
    def arm_axes(self) -> tuple[Axis, ...]:
        """The axes whose values are arms."""
        return tuple(axis for axis in self.axes if is_arm_axis(axis))


def grid_of(experiment: Experiment, axes: Sequence[Axis]) -> Grid:
    """All points in the order of the axes, the last one fastest. Raises UsageError for a key, a value or a number of them."""
    experiment = merge(experiment.model_dump(), {"vary": []})
    # A whole setting goes in first: an option of it is then one of the new value's.
    point_axes = sorted((axis for axis in axes if not is_arm_axis(axis)), key=lambda axis: bool(axis.owner))
    for axis in (axis for axis in axes if not axis.owner or is_arm_axis(axis)):
        check_key(axis, experiment)
    count = math.prod(len(axis.values) for axis in point_axes)
    if count > MOST_POINTS:
        raise UsageError(f"the grid has {count:,} points, but at most {MOST_POINTS:,} are allowed; give fewer values")
    base = merge(experiment.model_dump(), {"arms": arms_of(experiment.arms, [axis for axis in axes if is_arm_axis(axis)])})
    order = [axis for axis in axes if not is_arm_axis(axis)]
    points = []
    for number, combination in enumerate(product(*(axis.values for axis in order)), 1):
        values = dict(zip((axis.key for axis in order), combination, strict=True))
        placed = base
        for axis in point_axes:
            if axis.owner:
                check_key(axis, placed)
            placed = with_value(placed, axis.key, values[axis.key])
        points.append(Point(number, values, placed))
    _refuse_twins(points)
    return Grid(base, tuple(axes), tuple(points))


def _refuse_twins(points: Sequence[Point]) -> None:
    """Two points that are one experiment would be measured twice under two names."""
    seen: dict[str, Point] = {}
    for point in points:
        twin = seen.setdefault(repr(point.experiment), point)
        if twin is not point:
            raise UsageError(f"the points {twin.text} and {point.text} are the same experiment; give each value once")


def arms_of(arms: Sequence[str], axes: Sequence[Axis]) -> list[str]:
    """The arms with every value of their engine's axes, in the order of the arms, each once.

    Raises UsageError if they are too many, or an axis varies no arm of them.
    """
    found: dict[str, None] = {}
    for arm in arms:
        mine = [axis for axis in axes if axis.owner == split_spec(arm.partition("@")[0])[0]]
        for values in product(*(axis.values for axis in mine)):
            text = arm
            for axis, value in zip(mine, values, strict=True):
                text = with_arm_option(text, axis.option, value)
            found[text] = None
    if len(found) > MOST_ARMS:
        raise UsageError(
            f"the options that are varied make {len(found)} arms, but at most {MOST_ARMS} are allowed; give fewer values"
        )
    return list(found)


def arm_values(arm: str, axes: Sequence[Axis]) -> dict[str, str]:
    """The arm's value on each axis of its engine's options; what is no arm of that engine has none."""
    name, options = split_spec(arm.partition("@")[0])
    return {axis.key: options[axis.option] for axis in axes if axis.owner == name and axis.option in options}
