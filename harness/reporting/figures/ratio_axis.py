"""The axis of a ratio: logarithmic, since half and double are alike."""

import math
from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.ticker import NullLocator

from harness.reporting.figures.style import plain_number

MOST_TICKS = 9


def scale_ratios(axis: Axis, values: Sequence[float]) -> None:
    """Make it logarithmic, with room for ``values``, all above 0, and round ticks."""
    axes, across = axis.axes, axis.axis_name == "x"  # type: ignore[attr-defined]
    margin = max((max(values) / min(values)) ** 0.08, 1.02)
    low, high = min(values) / margin, max(values) * margin
    (axes.set_xscale if across else axes.set_yscale)("log")
    (axes.set_xlim if across else axes.set_ylim)(low, high)
    ticks = ratio_ticks(low, high)
    axis.set_ticks(ticks, [plain_number(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round places for a logarithmic axis of ratios, MOST_TICKS at most, 1 among them where it is inside."""
    for width in (0.02, 0.05, 0.1):
        if high / low < 1 + 8 * width:
            return [round(place * width, 2) for place in range(math.ceil(low / width), math.floor(high / width) + 1)]
    for steps in ((1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0,)):
        found = [step * 10.0**power for power in range(-6, 7) for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= MOST_TICKS:
            return found
    return [1.0]
