"""The axis of a ratio: logarithmic, since half and double are alike."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import NullLocator

from harness.reporting.figures.picture import Picture
from harness.reporting.figures.style import plain_number

MOST_TICKS = 9


def scale_ratios(axis: Axis, values: Sequence[float], least: tuple[float, float] | None = None) -> None:
    """Make it logarithmic, with room for ``values``, all above 0, and for ``least``, and round ticks."""
    axes, across = axis.axes, axis.axis_name == "x"  # type: ignore[attr-defined]
    margin = max((max(values) / min(values)) ** 0.08, 1.02)
    low, high = min(values) / margin, max(values) * margin
    if least is not None:  # so that noise is not blown up to look like a result
        low, high = min(low, least[0]), max(high, least[1])
    (axes.set_xscale if across else axes.set_yscale)("log")
    (axes.set_xlim if across else axes.set_ylim)(low, high)
    ticks = ratio_ticks(low, high)
    axis.set_ticks(ticks, [plain_number(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round places for a logarithmic axis of ratios, MOST_TICKS at most, 1 among them if it is inside."""
    for width in (0.02, 0.05, 0.1):
        if high / low < 1 + 8 * width:
            return [round(place * width, 2) for place in range(math.ceil(low / width), math.floor(high / width) + 1)]
    for steps in ((1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0,)):
        found = [step * 10.0**power for power in range(-6, 7) for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= MOST_TICKS:
            return found
    return [1.0]


def panels_of(picture: Picture, count: int) -> list[Axes]:
    """``count`` panels, three per row, that share their axes; each column has its numbers below its lowest panel."""
    columns = min(3, count)
    grid = picture.subplots(-(-count // columns), columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    for lowest in panels[max(count - columns, 0) : count]:
        lowest.tick_params(labelbottom=True)
    return panels[:count]


def panel_size(count: int) -> tuple[float, float]:
    """Inches of a picture with ``count`` panels."""
    columns = min(3, count)
    return max(7.0, 2.0 + 3.0 * columns), 1.4 + 2.6 * -(-count // columns)


def lowest_of(panels: Sequence[Axes]) -> Sequence[Axes]:
    """Of ``panels_of`` those with nothing below them."""
    return panels[-min(3, len(panels)) :]


def room(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", factor: float) -> tuple[float, float]:
    """Limits of an axis that hold ``values``, all above 0, and at least ``factor`` below and above their middle."""
    middle = float(np.median(values))
    return min(float(values.min()) / 1.05, middle / factor), max(float(values.max()) * 1.05, middle * factor)
