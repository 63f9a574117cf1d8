"""Ratios over time: one panel per pair of arms, one colour per metric, with intervals, margins and change points."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.core.errors import ResultsError, known
from harness.core.text import shortened, wrapped
from harness.gate.history.changes import Change, changes
from harness.gate.history.series import Series
from harness.gate.verdict import Outcome
from harness.reporting.figures.picture import titled
from harness.reporting.figures.style import BLACK, BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION, drawable, gridded, paper

COLOURS = (BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P")
KINDS = (".png", ".svg", ".pdf")
MOST_PANELS = 12
NOTE = (
    "Above 1 the candidate is slower. Bars: the bounds that decided. Thick lines: levels between change points. "
    "Dashed: the margin. Crosses: FAIL."
)


def draw(series: Sequence[Series]) -> Figure:
    """The picture of ``series``, at least one; if there are more than MOST_PANELS pairs of arms, the first ones and a note.

    Raises SetupError without ruptures.
    """
    pairs = list(dict.fromkeys((one.arm, one.base) for one in series))
    shown, metrics = pairs[:MOST_PANELS], list(dict.fromkeys(one.metric for one in series))
    note = NOTE + (f" {len(pairs) - len(shown)} further pairs of arms are not shown." if len(pairs) > len(shown) else "")
    styles = {metric: (COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)]) for at, metric in enumerate(metrics)}
    with paper():
        figure = titled("TTFT ratios over time", 9, 1.2 + 2.9 * len(shown), (note,))
        panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (arm, base) in zip(panels, shown, strict=True):
            _panel(axes, [one for one in series if (one.arm, one.base) == (arm, base)], styles)
            axes.set_title(wrapped(drawable(f"{arm} against {base}"), 100, 2), loc="left", fontsize=9)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write it, in the format of the suffix. Raises UsageError for one not in KINDS, ResultsError if it cannot be written."""
    check_kind(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with paper():
            FigureCanvasAgg(figure)
            figure.savefig(path)
    except OSError as error:
        raise ResultsError(f"the picture {path} cannot be written: {error.strerror}; give another --out") from error


def check_kind(path: Path) -> None:
    """Raise UsageError if no picture can have such a suffix."""
    if path.suffix not in KINDS:
        raise known("kind of picture", path.suffix or path.name, list(KINDS))


def _panel(axes: Axes, series: Sequence[Series], styles: Mapping[str, tuple[str, str]]) -> None:
    axes.axhline(1, color=INK, linewidth=0.8)
    for at, one in enumerate(series):
        colour, marker = styles[one.metric]
        _line(axes, one, colour, marker)
        for change in (found := changes(one)):
            # Each metric writes at a height of its own, so that changes at one time stay readable.
            _mark(axes, one, change, colour, 0.98 - 0.09 * (at % 5))
        _levels(axes, one, found, colour)
    locator = mdates.AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_ylabel("ratio of TTFT")
    axes.margins(y=0.16)
    gridded(axes, "y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _line(axes: Axes, series: Series, colour: str, marker: str) -> None:
    rows, times = series.rows, _numbers(series)
    ratio, low, high = (rows[name].to_numpy(dtype=np.float64) for name in ("ratio", "low", "high"))
    axes.vlines(times, np.where(np.isnan(low), ratio, low), np.where(np.isnan(high), ratio, high), color=colour, alpha=0.35)
    name = f"{series.metric}, {len(rows)} verdict{'s' if len(rows) > 1 else ''}"
    axes.plot(times, ratio, color=colour, linewidth=0.6, alpha=0.6)
    axes.plot(times, ratio, color=colour, linestyle="none", marker=marker, markersize=4, label=name)
    failed = (rows["outcome"] == str(Outcome.FAIL)).to_numpy(dtype=bool)
    axes.plot(times[failed], ratio[failed], linestyle="none", marker="x", markersize=9, markeredgewidth=1.6, color=VERMILLION)
    axes.axhline(1 + float(rows["margin"].iloc[-1]), color=colour, linewidth=0.9, linestyle=(0, (5, 3)), alpha=0.8)


def _levels(axes: Axes, series: Series, found: Sequence[Change], colour: str) -> None:
    """If there is a change: each level from its first to its last verdict."""
    times, edges = _numbers(series), [0, *(change.place for change in found), len(series.rows)]
    levels = [change.before for change in found[:1]] + [change.after for change in found]
    for level, start, end in zip(levels, edges, edges[1:], strict=False):
        axes.hlines(level, times[start], times[end - 1], color=colour, linewidth=2.5, alpha=0.8)


def _mark(axes: Axes, series: Series, change: Change, colour: str, height: float) -> None:
    time = _numbers(series)[change.place]
    axes.axvline(time, color=colour, linewidth=1, linestyle=(0, (1, 1)))
    what = f"{series.metric} {100 * (change.after / change.before - 1):+.0f}%"
    text = drawable(f"{what} {shortened(change.commit, 9)}".strip())
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    axes.text(time, height, f" {text}", transform=axes.get_xaxis_transform(), fontsize=7.5, color=colour, va="top", bbox=box)


def _numbers(series: Series) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Times as matplotlib counts them, in days."""
    days = series.times.dt.tz_localize(None).to_numpy()
    return np.asarray(mdates.date2num(days), dtype=np.float64)  # type: ignore[no-untyped-call]
