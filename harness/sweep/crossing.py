"""Where along an axis the lead changes between two arms, and how sure that is. Pure.

At each value of the axis there is a number whose sign says who leads (a log ratio, or a difference of times) with its
95% interval. Between two neighbouring values all three are taken to run straight, over the axis as it is or over its
logarithm. The lead changes where the number is 0; the interval of that place is where the number's interval holds 0. So
it is found by the same bounds that the table and the picture show, and a test of "they are even here" at each place:
where the lead rises or falls throughout, the true place lies in it as often as the intervals hold the true numbers, as
far as they do run straight. It is open where it reaches the end of the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.stats.quantiles import Floats

Kind = Literal["one", "none", "several"]

LOG_FROM = 4.0
"""An axis is taken by its logarithm where all values are above 0 and the largest is that many times the smallest."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """``kind``: the lead changes once, never or several times between the values measured.

    ``places`` are where it does, in units of the axis; ``between`` are the two values around each, where the lead is not 0.
    ``low`` and ``high`` bound the one place, None where that end is beyond the grid; where there is none, they bound where
    one may yet lie. ``undecided`` is False where there is no such
    place: each interval, and each line between two, leaves 0 out. ``before`` and ``after``: the sign of the lead at
    the lowest and the highest value; ``shown``: whether it is shown at all of them.
    """

    kind: Kind
    places: tuple[float, ...]
    between: tuple[tuple[float, float], ...]
    low: float | None
    high: float | None
    before: int
    after: int
    undecided: bool
    shown: bool


def scaled(values: Sequence[float]) -> bool:
    """Whether an axis over these values is taken by its logarithm."""
    return min(values) > 0 and max(values) >= LOG_FROM * min(values)


def crossing(
    at: Sequence[float], leads: Sequence[float], lows: Sequence[float], highs: Sequence[float], *, by_log: bool = False
) -> Crossing:
    """The crossing of ``leads`` with bounds, at two or more different values ``at`` of an axis, in any order.

    ``by_log``: they run straight over the axis' logarithm, where it is ``scaled``. Bounds may be infinite where nothing
    is known. Raises ValueError for fewer than two values.
    """
    if len(at) < 2:
        raise ValueError("a crossing needs two values of the axis")
    order = np.argsort(np.asarray(at, dtype=np.float64))
    x = np.asarray(at, dtype=np.float64)[order]
    by_log = by_log and scaled(list(at))
    line = np.log(x) if by_log else x
    middle, low, high = (np.asarray(one, dtype=np.float64)[order] for one in (leads, lows, highs))
    changes = _zeros(line, middle)
    places = [place for place, _, _ in changes]
    kind: Kind = "one" if len(places) == 1 else "several" if places else "none"
    stretches = _holding(line, low, high)
    if kind == "one" and not any(one[0] <= places[0] <= one[1] for one in stretches):
        stretches = sorted([*stretches, (places[0], places[0])])  # an interval as narrow as a rounding error
    back = math.exp if by_log else float
    left = min((one[0] for one in stretches), default=line[0])
    right = max((one[1] for one in stretches), default=line[-1])
    return Crossing(
        kind,
        tuple(back(one) for one in places),
        tuple((back(one), back(other)) for _, one, other in changes),
        None if left <= line[0] else back(left),
        None if right >= line[-1] else back(right),
        int(np.sign(middle[0])),
        int(np.sign(middle[-1])),
        bool(stretches),
        bool(np.all((low > 0) | (high < 0))),
    )


def _zeros(line: Floats, values: Floats) -> list[tuple[float, float, float]]:
    """Where the straight lines between the values change their sign, with the places of the values before and after."""
    found: list[tuple[float, float, float]] = []
    last, even = None, []  # place and value of the last one that is not 0; the places since then where it is
    for place, value in zip(line, values, strict=True):
        if value == 0:
            even.append(place)
            continue
        if last is not None and (value > 0) != (last[1] > 0):
            zero = np.mean(even) if even else last[0] + (place - last[0]) * last[1] / (last[1] - value)
            found.append((float(zero), float(last[0]), float(place)))
        last, even = (place, value), []
    return found


def _holding(line: Floats, low: Floats, high: Floats) -> list[tuple[float, float]]:
    """The stretches of the axis where the interval, straight between neighbours, holds 0; touching ones are one."""
    found: list[tuple[float, float]] = []
    for i in range(len(line) - 1):
        inside = _part(low[i], low[i + 1], below=True), _part(high[i], high[i + 1], below=False)
        if inside[0] is None or inside[1] is None:
            continue
        left, right = max(inside[0][0], inside[1][0]), min(inside[0][1], inside[1][1])
        if left > right:
            continue
        width = line[i + 1] - line[i]
        start, end = float(line[i] + left * width), float(line[i] + right * width)
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _part(first: float, second: float, *, below: bool) -> tuple[float, float] | None:
    """The part of the way from ``first`` to ``second``, in [0, 1], where a straight line is at most (at least) 0."""
    if not below:
        first, second = -first, -second
    if first <= 0 and second <= 0:
        return 0.0, 1.0
    if first > 0 and second > 0:
        return None
    # One end may be unbounded: then all of the way is, up to the other end.
    if math.isinf(first) or math.isinf(second):
        return 0.0, 1.0
    cut = first / (first - second)
    return (0.0, cut) if first <= 0 else (cut, 1.0)
