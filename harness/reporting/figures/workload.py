"""Pictures of a workload, before anything is run: lengths, reuse over the trace, arrivals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from harness.core.errors import ResultsError
from harness.reporting.figures.picture import titled
from harness.reporting.figures.style import BLUE, GREEN, INK, ORANGE, VERMILLION, gridded, paper, plain_number, scale_axis
from harness.workloads.outline import Outline
from harness.workloads.summary import gaps_of, granted

MOST_POINTS = 20_000
"""A longer trace is drawn with this many of its requests, evenly spaced."""

Values = NDArray[np.float64]


def draw_workload(outline: Outline, chunk_tokens: int, name: str, folder: Path) -> list[Path]:
    """Write the pictures that the workload allows as PNG into ``folder``; ``name`` stands below each. Returns the files.

    An earlier picture that cannot be drawn now is removed. Raises ResultsError if the folder
    cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with paper():
            below = (f"Workload {name}, {len(outline.prompt_tokens):,} requests",)
            pictures = {
                "lengths": draw_lengths(outline, below),
                "reuse": draw_reuse(outline, chunk_tokens, below),
                "arrivals": draw_arrivals(outline, below),
            }
            for stem, picture in pictures.items():
                file = folder / f"{stem}.png"
                if picture is None:
                    file.unlink(missing_ok=True)
                    continue
                FigureCanvasAgg(picture)
                picture.savefig(file)
                written.append(file)
    except OSError as error:
        raise ResultsError(f"the pictures cannot be written to {folder}: {error.strerror}; make room or give rights") from error
    return written


def draw_lengths(outline: Outline, below: Sequence[str] = ()) -> Figure:
    """Histogram of prompt lengths, and ECDFs of prompts, hits and outputs, over one logarithmic axis."""
    picture = titled("Lengths of prompts, hits and outputs", 8, 5.6, below)
    top, bottom = picture.subplots(2, 1, sharex=True)
    recorded = (outline.recorded_tokens >= 0).all()
    columns = {
        "prompt": (outline.prompt_tokens, BLUE, "-"),
        "ideal hit": (outline.prefix_tokens, GREEN, (0, (5, 1.5))),
        "output in the trace" if recorded else "output asked for": (
            outline.recorded_tokens if recorded else outline.output_tokens,
            VERMILLION,
            (0, (2, 1)),
        ),
    }
    largest = max(int(values.max()) for values, _, _ in columns.values())
    smallest = min(int(values.min()) for values, _, _ in columns.values())
    edges = np.unique(np.geomspace(1, largest + 1, 61).astype(np.int64))
    top.hist(outline.prompt_tokens, bins=edges.tolist(), color=BLUE, edgecolor="white", linewidth=0.4)
    top.set_ylabel("prompts")
    top.yaxis.set_major_locator(MaxNLocator(integer=True))
    for label, (values, colour, line) in columns.items():
        x, share = _ecdf(values.astype(np.float64))
        zero = float((values == 0).mean())
        note = f" ({zero:.0%} are 0)" if zero >= 0.005 else ""
        bottom.step(
            np.maximum(x, 0.5),
            share,
            where="post",
            color=colour,
            linestyle=line,
            linewidth=1.8,
            label=label + note,
        )
    bottom.set_xscale("log")
    bottom.set_xlim(max(smallest / 1.3, 0.9), largest * 1.3)
    bottom.xaxis.set_major_formatter(FuncFormatter(plain_number))
    bottom.set_xlabel("tokens")
    bottom.set_ylabel("share of requests")
    _percent(bottom)
    _legend_above(bottom)
    return picture


def draw_reuse(outline: Outline, chunk_tokens: int, below: Sequence[str] = ()) -> Figure:
    """Each request's ideal hit, and the hit rate so far, in the order of the trace."""
    picture = titled("How much of each prompt earlier prompts had", 8, 4.4, below)
    axes = picture.subplots()
    number = np.arange(1, len(outline.prompt_tokens) + 1)
    drawn = np.unique(np.linspace(0, len(number) - 1, min(len(number), MOST_POINTS)).astype(np.int64))
    share = outline.prefix_tokens / np.maximum(outline.prompt_tokens, 1)
    few = len(drawn) <= 200
    label = "one request" if len(drawn) == len(number) else f"one request ({len(drawn):,} of them)"
    axes.plot(
        number[drawn],
        share[drawn],
        linestyle="none",
        marker="o",
        markersize=4 if few else 1.8,
        color=BLUE,
        alpha=0.8 if few else 0.25,
        markeredgewidth=0,
        label=label,
    )
    total = np.maximum(np.cumsum(outline.prompt_tokens), 1)
    lines = {
        "hit rate so far, to the token": (outline.prefix_tokens, INK, "-"),
        f"hit rate so far, whole chunks of {chunk_tokens:,}": (granted(outline, chunk_tokens), ORANGE, (0, (5, 1.5))),
    }
    for text, (hits, colour, line) in lines.items():
        rate = np.cumsum(hits) / total
        axes.plot(number[drawn], rate[drawn], color=colour, linestyle=line, linewidth=2, label=text)
    axes.set_xlabel("request, in the order of sending")
    axes.set_ylabel("ideal hit, share of the prompt")
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    _percent(axes)
    _legend_above(axes, 1 if few else 3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return picture


def draw_arrivals(outline: Outline, below: Sequence[str] = ()) -> Figure | None:
    """Requests per second over the trace, and the gaps between them beside those of a Poisson process of the same rate.

    None if there is no clock.
    """
    gaps = gaps_of(outline.arrival_s)
    if len(gaps) < 2:
        return None
    picture = titled("When requests arrive", 8, 5.6, below)
    top, bottom = picture.subplots(2, 1)
    _rate(top, outline.arrival_s)
    x = np.sort(gaps)
    share = np.arange(1, len(x) + 1) / len(x)
    bottom.step(
        np.concatenate([x[:1], x]), np.concatenate([[0.0], share]), where="post", color=BLUE, linewidth=1.8, label="trace"
    )
    even = np.linspace(0, x[-1], 400) if x[0] <= 0 else np.geomspace(x[0], x[-1], 400)
    bottom.plot(even, 1 - np.exp(-even / gaps.mean()), color=VERMILLION, linestyle=(0, (5, 1.5)), linewidth=1.5, label="Poisson")
    scale_axis(bottom.xaxis, x if x[0] > 0 else np.empty(0))
    bottom.set_xlabel("gap to the request before (s)")
    bottom.set_ylabel("share of gaps")
    _percent(bottom)
    _legend_above(bottom)
    return picture


def _ecdf(values: Values) -> tuple[Values, Values]:
    """Corners of the ECDF, from 0 at the smallest value; of a long trace 2,000 of them, evenly spaced."""
    ordered = np.sort(values)
    at = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), 2000)).astype(np.int64))
    return np.concatenate([ordered[:1], ordered[at]]), np.concatenate([[0.0], (at + 1) / len(ordered)])


def _rate(axes: Axes, arrival_s: Values) -> None:
    span = float(arrival_s[-1] - arrival_s[0])
    count, edges = np.histogram(arrival_s, bins=min(120, max(10, len(arrival_s) // 5)))
    width = float(edges[1] - edges[0])
    axes.stairs(count / width, edges, color=BLUE, fill=True)
    axes.axhline((len(arrival_s) - 1) / span, color=INK, linestyle=(0, (2, 1)), linewidth=1.2, label="mean")
    axes.set_xlabel("time of the trace (s)")
    axes.set_ylabel(f"requests per second\n(over {width:.3g} s)")
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.set_ylim(0)
    _legend_above(axes)


def _legend_above(axes: Axes, markerscale: float = 1) -> None:
    """Outside the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, markerscale=markerscale, borderaxespad=0.2)


def _percent(axes: Axes) -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    gridded(axes)
