"""The picture of ``ttft store bench``: time over size, bandwidth over threads and over event loops, what a batch gains."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from harness.reporting.figures.picture import Picture, titled
from harness.reporting.figures.save import save_all
from harness.reporting.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    drawable,
    gridded,
    plain_number,
    scale_axis,
)
from harness.stores._bench import Cell, Estimate, LinkFit, Summary
from harness.stores._bench.settings import size_text

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_bench(summary: Summary, fit: LinkFit | None, store: str, limit: str, folder: Path) -> list[Path]:
    """Write bench.png and bench.svg; ``store`` is its URL without secrets. Raises ResultsError if it cannot write."""
    return save_all([("bench", lambda: picture_of(summary, fit, store, limit))], folder)


def picture_of(summary: Summary, fit: LinkFit | None, store: str, limit: str) -> Picture:
    """Four panels; one line per object size."""
    sizes = sorted({cell.size for cell in summary.of("read")})
    note = f"Medians of {summary.n} rounds, bars: 95% intervals." + (f" Dotted, hollow: {limit}, the limit." if limit else "")
    picture = titled("What the store does by itself", 10, 7.2, (note, f"Store {store}"))
    panels = picture.subplots(2, 2)
    _times(panels[0, 0], summary, sizes, fit)
    _threads(panels[0, 1], summary, sizes)
    _loops(panels[1, 0], summary, sizes)
    _batches(panels[1, 1], summary, sizes)
    for axes in panels.flat:
        gridded(axes)
    names, handles = {}, []
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in names:
                names[label] = handle
    handles = list(names.values())
    picture.legend(handles, list(names), loc="outside right upper", fontsize=8, handlelength=3)
    return picture


def _times(axes: Axes, summary: Summary, sizes: Sequence[int], fit: LinkFit | None) -> None:
    axes.set_title("One call, one thread", loc="left", fontsize=9)
    for number, size in enumerate(sizes):
        _point(axes, size, summary.key_s(Cell("read", size)), number, 1e3)
        limit = Cell("limit", size)
        if limit in summary:
            axes.plot([size], [summary.key_s(limit).value * 1e3], _marker(number), color=_colour(number), fillstyle="none")
    if fit is not None:
        at = np.geomspace(sizes[0], sizes[-1], 100)
        rate = fit.bytes_per_s.value
        axes.plot(at, (fit.latency_s.value + at / rate) * 1e3, color=INK, linewidth=1, label="latency + bytes / bandwidth")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(sizes), [size_text(size) for size in sizes])
    axes.yaxis.set_major_formatter(plain_number)
    axes.set_xlabel("bytes of the object")
    axes.set_ylabel("ms per call, mean")


def _threads(axes: Axes, summary: Summary, sizes: Sequence[int]) -> None:
    axes.set_title("Blocking reads", loc="left", fontsize=9)
    counts = sorted({cell.callers for cell in summary.of("read")})
    for number, size in enumerate(sizes):
        cells = [Cell("read", size, count) for count in counts]
        _line(axes, counts, cells, summary.bytes_per_s, number, 1e-6, size_text(size))
        limits = [cell for cell in summary.of("limit") if cell.size == size]
        values = [summary.bytes_per_s(cell).value / 1e6 for cell in limits]
        axes.plot(
            [cell.callers for cell in limits], values, _marker(number), color=_colour(number), fillstyle="none", linestyle=":"
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("threads")
    _mbps(axes, summary, ("read", "limit"))


def _loops(axes: Axes, summary: Summary, sizes: Sequence[int]) -> None:
    axes.set_title("Asynchronous reads", loc="left", fontsize=9)
    ways = sorted({(cell.callers, cell.in_flight) for cell in summary.of("aread")}, key=lambda way: (way[0] * way[1], way))
    for number, size in enumerate(sizes):
        cells = [Cell("aread", size, loops, in_flight) for loops, in_flight in ways]
        _line(axes, range(len(ways)), cells, summary.bytes_per_s, number, 1e-6, size_text(size))
    axes.set_xticks(range(len(ways)), [f"{loops} x {in_flight}" for loops, in_flight in ways])
    axes.set_xlabel("event loops x calls in flight of each")
    _mbps(axes, summary, ("aread",))


def _batches(axes: Axes, summary: Summary, sizes: Sequence[int]) -> None:
    axes.set_title("One call for several keys, over one call per key", loc="left", fontsize=9)
    batches = sorted({cell.batch for cell in summary.of("read")} - {1})
    axes.axhline(1, color=INK, linewidth=1)
    for number, size in enumerate(sizes):
        base = Cell("read", size)
        cells = [Cell("read", size, batch=batch) for batch in batches]
        _line(axes, batches, cells, lambda cell, base=base: summary.ratio(cell, base), number, 1.0, size_text(size))  # type: ignore[misc]
    if found := [cell for cell in summary.of("exists") if cell.batch > 1]:
        base = Cell("exists", found[0].size)
        values = [summary.ratio(cell, base).value for cell in found]
        axes.plot([cell.batch for cell in found], values, "x", color=FAINT, linestyle="--", label="exists")
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(plain_number)
    axes.yaxis.set_minor_formatter(plain_number)
    axes.set_xlabel("keys of a call")
    axes.set_ylabel("times as fast")


def _mbps(axes: Axes, summary: Summary, actions: Sequence[str]) -> None:
    values = np.array([summary.bytes_per_s(cell).value / 1e6 for name in actions for cell in summary.of(name)])
    if len(values):
        scale_axis(axes.yaxis, values, zero=True)
    axes.set_ylabel("MB/s of all calls")


def _line(
    axes: Axes,
    at: Sequence[float],
    cells: Sequence[Cell],
    estimate: Callable[[Cell], Estimate],
    number: int,
    scale: float,
    label: str,
) -> None:
    found = [(place, cell) for place, cell in zip(at, cells, strict=True)]
    values = [estimate(cell).value * scale for _, cell in found]
    for place, cell in found:
        _point(axes, place, estimate(cell), number, scale)
    axes.plot([place for place, _ in found], values, _marker(number), color=_colour(number), linestyle="-", label=drawable(label))


def _point(axes: Axes, at: float, found: Estimate, number: int, scale: float) -> None:
    axes.vlines(at, found.low * scale, found.high * scale, color=_colour(number), linewidth=1.2)
    axes.plot([at], [found.value * scale], _marker(number), color=_colour(number))


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _marker(number: int) -> str:
    return _MARKERS[number % len(_MARKERS)]
