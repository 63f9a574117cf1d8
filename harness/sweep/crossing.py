"""Where along an axis the lead changes between two arms. Pure.

At each measured value of the axis there is a number whose sign says who leads (a log ratio, or a difference of times)
with its 95% interval; where the interval leaves 0 out, the lead is shown. That the lead changes is sure between the
nearest values on either side at which it is shown. Where between them, nothing that was measured says: the place is
read off a straight line, over the axis as it is or over its logarithm.
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

    ``places`` are where it does by a straight line, in units of the axis. ``low`` and ``high`` are the nearest values
    around the one place at which the lead is shown, None where there is none on that side. ``open``: the values at which
    the interval holds 0. ``before`` and ``after``: the sign of the lead at the lowest and the highest value where it is not 0.
    """

    kind: Kind
    places: tuple[float, ...]
    low: float | None
    high: float | None
    open: tuple[float, ...]
    before: int
    after: int


def scaled(values: Sequence[float]) -> bool:
    """Whether an axis over these values is drawn by its logarithm."""
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
    x, middle, low, high = (np.asarray(one, dtype=np.float64)[order] for one in (at, leads, lows, highs))
    by_log = by_log and scaled(list(at))
    places = _zeros(np.log(x) if by_log else x, middle)
    back = math.exp if by_log else float
    shown = (low > 0) | (high < 0)
    kind: Kind = "one" if len(places) == 1 else "several" if places else "none"
    signs = [np.sign(value) for value in middle if value] or [0]
    below = above = None
    if kind == "one":
        place = back(places[0])
        below = max((float(value) for value in x[shown & (x <= place)]), default=None)
        above = min((float(value) for value in x[shown & (x >= place)]), default=None)
    return Crossing(
        kind,
        tuple(back(one) for one in places),
        below,
        above,
        tuple(float(value) for value in x[~shown]),
        int(signs[0]),
        int(signs[-1]),
    )


def _zeros(line: Floats, values: Floats) -> list[float]:
    """Where the straight lines between the values change their sign."""
    found: list[float] = []
    last, even = None, []  # place and value of the last one that is not 0; the places since then where it is
    for place, value in zip(line, values, strict=True):
        if value == 0:
            even.append(place)
            continue
        if last is not None and (value > 0) != (last[1] > 0):
            found.append(float(np.mean(even) if even else last[0] + (place - last[0]) * last[1] / (last[1] - value)))
        last, even = (place, value), []
    return found
