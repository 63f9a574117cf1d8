"""The break-even map: which engine the recurrence says wins at which load and which penalty; the measurement's arms on it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.style import INK, LOGARITHMIC, SKY, arm_label, drawable, gridded, looks, plain_number
from harness.reporting.figures.timeline import model_layers
from harness.reporting.forecast.breakeven import Point, closed_form, depths, points, recurrence
from harness.results.evidence import Evidence

STEPS = 48
_LINES = ("--", ":", "-.")
NOTE = (
    "a: chunkwise's time to load over the time to compute. b: layerwise's time to load over chunkwise's, for the same bytes. "
    "Below the line layerwise should be faster. Filled: it was measured faster. Medians over the prompts that load."
)


def draw(evidence: Evidence) -> Picture | None:
    """The map with a point for each layerwise arm beside each chunkwise one. None if there are no two to compare."""
    found = points(evidence)
    if not found:
        return None
    picture = figure(evidence, "Break-even map: which engine has the lower TTFT", 9, 5.0, NOTE)
    axes = picture.subplots()
    (left, right), (bottom, top) = limits(found)
    _regions(axes, evidence, np.geomspace(left, right, STEPS, dtype=np.float64), bottom, top)
    look = looks(evidence.arms)
    for point in found:
        colour = look[point.layerwise.name].colour
        dot = axes.plot(
            [point.a],
            [point.b],
            look[point.chunkwise.name].marker,
            color=colour,
            markerfacecolor=colour if point.ratio < 1 else "white",
            markersize=9,
            markeredgewidth=1.6,
            linestyle="none",
            label=f"{arm_label(point.layerwise, 28)}\nagainst {arm_label(point.chunkwise, 28)}:\nmeasured {point.ratio:.2f}",
        )[0]
        told = (
            f"{point.layerwise.name} against {point.chunkwise.name}: a {point.a:.2f}, b {point.b:.2f}, measured {point.ratio:.2f}"
        )
        picture.mark(dot, point.layerwise, [told])
        picture.aside.notes.append(told + _doubt(point))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain_number)
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"a: chunkwise's load / compute, {LOGARITHMIC}")
    axes.set_ylabel(f"b: layerwise's load / chunkwise's, {LOGARITHMIC}")
    gridded(axes)
    picture.legend(loc="outside right upper", fontsize=8, labelspacing=0.9)
    return picture


def _doubt(point: Point) -> str:
    if point.ratio <= 1 or point.b >= float(closed_form(np.array([point.a]))[0]):
        return "."
    return ", although below the line: the recurrence knows no processor time of a call."


def limits(found: list[Point]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of a and b that hold the points and what is worth seeing of the line."""
    a, b = [point.a for point in found], [point.b for point in found]
    return (min(0.1, min(a) / 2), max(30.0, max(a) * 2)), (min(0.3, min(b) / 2), max(10.0, max(b) * 2))


def line_name(depth: int, groups: str) -> str:
    """What a line of the recurrence is called."""
    return f"recurrence, depth {depth}" + (f", groups of {groups}" if groups != "1" else "")


def _regions(
    axes: Axes, evidence: Evidence, a: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", bottom: float, top: float
) -> None:
    line = closed_form(a)
    axes.fill_between(a, bottom, np.clip(line, bottom, top), color=SKY, alpha=0.18, linewidth=0)
    axes.plot(a, line, color=INK, linewidth=1.4, label="closed form: b = 1 + 1/a")
    layers = model_layers(evidence)
    for (depth, groups), style in zip(depths(evidence), _LINES, strict=False):
        if layers:
            edge = [recurrence(float(one), layers, depth, groups) for one in a]
            axes.plot(a, edge, color=INK, linewidth=1.2, linestyle=style, label=drawable(line_name(depth, groups)))
    axes.text(0.03, 0.04, "layerwise faster", transform=axes.transAxes, fontsize=9, style="italic")
    axes.text(0.97, 0.96, "chunkwise faster", transform=axes.transAxes, fontsize=9, style="italic", ha="right", va="top")
