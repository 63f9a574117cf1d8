"""Interactive: the break-even map."""

from typing import Any

import numpy as np
from bokeh.models.annotations import Label
from bokeh.plotting import figure

from harness.core.text import printable, shortened
from harness.reporting.figures.breakeven import STEPS, limits, line_name
from harness.reporting.figures.style import INK, SKY, looks
from harness.reporting.figures.timeline import model_layers
from harness.reporting.forecast.breakeven import Point, closed_form, depths, points, recurrence
from harness.reporting.page.canvas import MARKERS, PAPER, Interactive, belongs, canvas, frame, hover, numbers, table, words
from harness.results.evidence import Evidence

LABEL: dict[str, Any] = {"text_color": INK, "text_font_size": "12px", "text_baseline": "middle"}
LINE_HEIGHT = 15
"""Pixels from one label to the next below it."""
WIDE, HIGH = 1.5, 0.15
"""Natural logarithms of a and b within which two labels would cover one another."""
DASHES = ("dashed", "dotted", "dotdash")


def draw(evidence: Evidence) -> Interactive | None:
    """The map with a point for each layerwise arm beside each chunkwise one; None where there are no two to compare."""
    found = points(evidence)
    if not found:
        return None
    (left, right), (bottom, top) = limits(found)
    plot = canvas("a: load / compute, chunkwise", "b: layerwise's load / chunkwise's", True, True, height=420)
    frame(plot, (left, right), (bottom, top))
    a = np.geomspace(left, right, STEPS, dtype=np.float64)
    edge = closed_form(a)
    floor = np.full(STEPS, bottom)
    plot.varea(x=numbers(a), y1=numbers(floor), y2=numbers(np.clip(edge, bottom, top)), color=SKY, fill_alpha=0.2)
    lines = [plot.line("a", "b", source=table({"a": numbers(a), "b": numbers(edge)}), color=INK, line_width=2)]
    lines[0].name = "closed form: b = 1 + 1/a"
    layers = model_layers(evidence)
    for (depth, width), style in zip(depths(evidence) if layers else (), DASHES, strict=False):
        line = {"a": numbers(a), "b": numbers([recurrence(float(one), layers, depth, width) for one in a])}
        lines.append(plot.line("a", "b", source=table(line), color=INK, line_width=1.5, line_dash=style))
        lines[-1].name = line_name(depth, width)
    hover(plot, lines, [("line", "$name"), ("a", "@a{0.00}"), ("b", "@b{0.00}")], line_policy="nearest")
    look, dots = looks(evidence.arms), []
    for point, crowded in zip(found, _crowded(found), strict=True):
        colour = look[point.layerwise.name].colour
        data: dict[str, list[Any]] = {
            "a": [point.a],
            "b": [point.b],
            "ratio": [point.ratio],
            "prompts": [point.prompts],
            "against": words([point.chunkwise.name]),
        }
        filled = colour if point.ratio < 1 else PAPER
        marker = MARKERS[look[point.chunkwise.name].marker]
        dot = plot.scatter(
            "a", "b", source=table(data), marker=marker, line_color=colour, fill_color=filled, size=14, line_width=2
        )  # filled: layerwise was measured sooner
        against = f"against {shortened(printable(point.chunkwise.name), 28)}"
        on_the_right = point.a * point.a > left * right  # of the middle of a logarithmic axis
        side: dict[str, Any] = {"x_offset": -18, "text_align": "right"} if on_the_right else {"x_offset": 18}
        beside = plot.text([point.a], [point.b], [against], y_offset=LINE_HEIGHT * crowded, **side, **LABEL)
        belongs(point.layerwise.name, point.layerwise.order, dot, beside)
        dots.append(dot)
    told = [("arm", "$name"), ("against", "@against"), ("a", "@a{0.00}"), ("b", "@b{0.00}")]
    hover(plot, dots, [*told, ("measured TTFT ratio", "@ratio{0.000}"), ("prompts", "@prompts{0,0}")])
    _sides(plot, left, right, bottom, top)
    notes = [
        f"{point.layerwise.name} against {point.chunkwise.name}: a {point.a:.2f}, b {point.b:.2f}, measured {point.ratio:.2f}"
        + (", although below the line: the model knows no processor time of a call." if _against_the_model(point) else ".")
        for point in found
    ]
    return Interactive(plot, list(dict.fromkeys(point.layerwise.name for point in found)), notes)


def _against_the_model(point: Point) -> bool:
    return point.ratio > 1 and point.b < float(closed_form(np.array([point.a]))[0])


def _crowded(found: list[Point]) -> list[int]:
    """For each point, how many before it lie so near that its label would cover theirs."""
    return [
        sum(abs(np.log(other.a / point.a)) < WIDE and abs(np.log(other.b / point.b)) < HIGH for other in found[:position])
        for position, point in enumerate(found)
    ]


def _sides(plot: figure, left: float, right: float, bottom: float, top: float) -> None:
    look: dict[str, Any] = {"text_color": INK, "text_font_size": "13px", "text_font_style": "italic"}
    plot.add_layout(Label(x=left * 1.08, y=bottom * 1.08, text="layerwise sooner", **look))
    plot.add_layout(Label(x=right / 1.08, y=top / 1.08, text="chunkwise sooner", text_align="right", text_baseline="top", **look))
