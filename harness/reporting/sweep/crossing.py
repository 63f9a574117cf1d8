"""Where along an axis the lead changes between two arms. Pure.

At each measured value of the axis there is a number whose sign says who leads (a log ratio, or a difference of times)
with its 95% interval; if the interval excludes 0, the lead is shown. It changes between two neighbouring values at
which opposite leads are shown, whatever the values between them seem to say. Where between them, no measurement
says: the place is read off straight lines, over the axis as it is or over its logarithm.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.stats.quantiles import Floats

Kind = Literal["one", "several", "seems", "none"]

LOG_FROM = 4.0
"""An axis is logarithmic if all values are above 0 and the largest is this many times the smallest."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """``kind``: the lead is shown to change once or several times, only seems to change, or does not.

    ``between``: for each shown change the values around it. If it only seems to change there is one pair, with None on
    the side, or both, if no value shows the lead. ``places``: near which value of the axis, one per pair. ``before``
    and ``after``: the sign of the lead at the lowest and the highest value that shows it, or else of the first and the
    last lead that is not 0. ``open``: the values that show nothing.
    """

    kind: Kind
    between: tuple[tuple[float | None, float | None], ...]
    places: tuple[float, ...]
    open: tuple[float, ...]
    before: int
    after: int


def scaled(values: Sequence[float]) -> bool:
    """Whether an axis over these values is logarithmic."""
    return min(values) > 0 and max(values) >= LOG_FROM * min(values)


def crossing(
    at: Sequence[float], leads: Sequence[float], lows: Sequence[float], highs: Sequence[float], *, by_log: bool = False
) -> Crossing:
    """The crossing of ``leads`` with bounds, at two or more different values ``at`` of an axis, in any order.

    ``by_log``: they run straight over the axis' logarithm, if it is ``scaled``. Bounds may be infinite if nothing
    is known. Raises ValueError for fewer than two values, a value that is listed twice, and a lead that is not finite.
    """
    if len(at) < 2 or len(set(at)) < len(at) or not np.all(np.isfinite(leads)):
        raise ValueError("a crossing needs two different values of the axis or more, and a finite lead at each")
    order = np.argsort(np.asarray(at, dtype=np.float64))
    x, middle, low, high = (np.asarray(one, dtype=np.float64)[order] for one in (at, leads, lows, highs))
    shown = ((low > 0) & (middle > 0)) | ((high < 0) & (middle < 0))
    changes = _zeros(x, middle, by_log and scaled(list(at)))
    told = [(float(value), int(np.sign(lead))) for value, lead in zip(x[shown], middle[shown], strict=True)]
    between: list[tuple[float | None, float | None]] = [
        (one[0], other[0]) for one, other in itertools.pairwise(told) if one[1] != other[1]
    ]
    kind: Kind = "one" if len(between) == 1 else "several" if between else "none"
    if not between and changes:
        left = max((value for value, _ in told if value < changes[0]), default=None)
        right = min((value for value, _ in told if value > changes[-1]), default=None)
        if left is None or right is None:  # else both show the same lead, and what lies between is noise
            kind, between = "seems", [(left, right)]
    signs = [int(np.sign(lead)) for lead in middle if lead] or [0]
    if told and kind != "seems":
        signs = [sign for _, sign in told]
    places = tuple(_inside(changes, pair) for pair in between)
    return Crossing(kind, tuple(between), places, tuple(float(value) for value in x[~shown]), signs[0], signs[-1])


def _inside(changes: Sequence[float], pair: tuple[float | None, float | None]) -> float:
    """The middle one of the sign changes between the two values: an odd number if they show opposite leads."""
    low, high = (-math.inf if pair[0] is None else pair[0]), (math.inf if pair[1] is None else pair[1])
    inside = [place for place in changes if low <= place <= high]
    return inside[len(inside) // 2]


def _zeros(x: Floats, values: Floats, by_log: bool) -> list[float]:
    """Where straight lines between the values change their sign."""
    line, back = (np.log(x), math.exp) if by_log else (x, float)
    found: list[float] = []
    last, even = None, []  # number of the last one that is not 0; the places since then if it is
    for number, value in enumerate(values):
        if value == 0:
            even.append(line[number])
            continue
        if last is not None and (value > 0) != (values[last] > 0):
            share = values[last] / (values[last] - value)
            zero = np.mean(even) if even else line[last] + (line[number] - line[last]) * share
            found.append(float(np.clip(back(zero), x[last], x[number])))  # by a logarithm and back, it may miss by a rounding
        last, even = number, []
    return found
