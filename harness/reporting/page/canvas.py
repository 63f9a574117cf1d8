"""An interactive figure in the looks of reporting.figures.style. What belongs to an arm is tagged, so it can be toggled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    Tool,
    WheelZoomTool,
)
from bokeh.models.annotations import Span
from bokeh.models.labeling import NoOverlap
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from harness.core.text import printable
from harness.reporting.figures.style import FAINT, INK, Look

GRID = "#dddddd"
PAPER = "#fefefe"  # not quite white: what equals Bokeh's default is not written out, and could not be made dark
DARK: Mapping[str, str] = {
    INK: "#e8e8ea",
    FAINT: "#a0a0a6",
    GRID: "#3c3c42",
    PAPER: "#1b1b1f",
    "#000000": "#ffffff",
    "#666666": "#a8a8a8",
    "#999999": "#cfcfcf",
    "#0072B2": "#4f9fe0",
}
"""What the colours of the figures become where the reader's screen is dark; all others do on both."""

MARKERS: Mapping[str, str] = {
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "D": "diamond",
    "v": "inverted_triangle",
    "P": "plus",
    "X": "x",
    "p": "star",
    "<": "triangle_pin",
    "h": "hex",
    "1": "y",
    "2": "cross",
}
"""matplotlib's markers as Bokeh's."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a colour and a hatch stand for."""

    label: str
    colour: str
    hatch: str

    @property
    def dark(self) -> str:
        """The colour on a dark screen."""
        return DARK.get(self.colour, self.colour)


@dataclass(frozen=True, slots=True)
class Interactive:
    """A Bokeh figure, the sentences that go with it, and the arms that a reader can switch on and off in it."""

    plot: figure
    arms: Sequence[str] = ()
    notes: Sequence[str] = ()
    choices: Sequence[Mapping[str, Any]] = field(default=())
    """Timelines only: what the list of requests offers (see harness.reporting.page.timeline)."""
    keys: Sequence[Key] = ()


def canvas(x_label: str, y_label: str, x_log: bool = False, y_log: bool = False, height: int = 380, **more: Any) -> figure:
    """An empty figure as wide as the page. The labels must not hold text from outside: Bokeh reads ``$$`` as TeX."""
    tools: list[Tool] = [PanTool(), BoxZoomTool(), WheelZoomTool(), ResetTool(), SaveTool()]
    plot = figure(
        sizing_mode="stretch_width",
        height=height,
        x_axis_type="log" if x_log else "linear",
        y_axis_type="log" if y_log else "linear",
        x_axis_label=x_label,
        y_axis_label=y_label,
        tools=tools,
        active_drag=None,  # on a phone a finger scrolls the page; where there is a mouse the page turns box zoom on
        active_scroll=None,
        toolbar_location="above",
        background_fill_color=None,
        border_fill_color=PAPER,  # so that a saved image can be read on any ground
        outline_line_color=None,
        output_backend="canvas",
        **more,
    )
    plot.toolbar.logo = None
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_line_color = axis.major_tick_line_color = FAINT
        axis.minor_tick_line_color = None
        axis.axis_label_text_font_style = "normal"
    plot.xaxis.major_label_policy = NoOverlap(min_distance=6)  # on a phone
    for grid in (*plot.xgrid, *plot.ygrid):
        grid.grid_line_color = GRID
    for axis, log in ((plot.xaxis, x_log), (plot.yaxis, y_log)):
        if log:  # the usual ticker labels whole decades only, and data seldom span more than two
            axis.ticker = FixedTicker(ticks=[step * 10.0**power for power in range(-6, 7) for step in (1, 1.5, 2, 3, 5, 7)])
    numbers = NumeralTickFormatter(format="0,0.[0000]")
    plot.xaxis.formatter = numbers
    plot.yaxis.formatter = numbers
    return plot


def belongs(arm: str, number: int, *renderers: "GlyphRenderer[Any]") -> None:
    """Tag renderers as an arm's: the page toggles them, and a tooltip shows the arm as ``$name``."""
    for renderer in renderers:
        renderer.tags = [f"arm:{number}"]
        renderer.name = printable(arm)


def hover(plot: figure, renderers: "Sequence[GlyphRenderer[Any]]", tooltips: Sequence[tuple[str, str]], **more: Any) -> None:
    """Show ``tooltips`` over ``renderers``. Values come as ``@column``, which Bokeh shows as text."""
    plot.add_tools(HoverTool(renderers=list(renderers), tooltips=list(tooltips), **more))


def mark(plot: figure, at: float) -> None:
    """A level line across the whole figure, as at a ratio of 1."""
    plot.add_layout(Span(location=at, dimension="width", line_color=INK, line_width=1))


def dash(look: Look) -> list[int] | str:
    """An arm's line as Bokeh wants it."""
    return "solid" if look.line == "-" else [max(1, round(2 * length)) for length in look.line[1]]


def numbers(values: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Values for a column of a figure: seven digits are more than any pixel shows, and half the size."""
    return np.asarray(values, dtype=np.float64).astype(np.float32)


def table(columns: Mapping[str, Any]) -> ColumnDataSource:
    """Columns of equal length, for a glyph."""
    return ColumnDataSource(dict(columns))


def frame(plot: figure, x: tuple[float, float] | None = None, y: tuple[float, float] | None = None) -> None:
    """What part of the plane the figure shows at first; from the larger to the smaller end turns an axis round."""
    if x is not None:
        plot.x_range = Range1d(start=x[0], end=x[1])
    if y is not None:
        plot.y_range = Range1d(start=y[0], end=y[1])


def words(values: Iterable[object]) -> list[str]:
    """Texts from outside for a column of a figure."""
    return [printable(value) for value in values]
