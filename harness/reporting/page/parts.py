"""Interactive: where the time went."""

from typing import Any

import numpy as np
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from harness.core.text import printable, shortened
from harness.reporting.figures.parts import PARTS, Part, edge_of, loads_of, splits_of
from harness.reporting.figures.style import BLUE, INK, unit_of
from harness.reporting.page.canvas import PAPER, Interactive, Key, canvas, frame, hover, table
from harness.results.evidence import Evidence

HATCHES = {"queue": "dot", "lookup": "left_diagonal_line", PARTS[2].name: "right_diagonal_line", PARTS[4].name: "cross"}
ROW = 62
"""Pixels of an arm's row."""


def draw(evidence: Evidence) -> Interactive | None:
    """A stacked bar an arm with the load below it; None where no row has parts."""
    splits = splits_of(evidence)
    if not splits:
        return None
    loads = loads_of(evidence, splits)
    edge = edge_of(splits, loads)
    unit = unit_of(np.array([edge]))
    plot = canvas(f"mean time a request ({unit.name})", "", height=90 + ROW * len(splits))
    plot.yaxis.visible = False
    plot.ygrid.visible = False
    frame(plot, (0, edge * unit.scale * 1.02 or 1.0), (len(splits) - 0.3, -0.65))
    names, rows = [printable(arm.name) for arm in splits], np.arange(len(splits))
    left: np.ndarray[Any, Any] = np.zeros(len(splits))
    bars = []
    for part in PARTS:
        width = np.array([parts[part.name] for parts in splits.values()]) * unit.scale
        data = {"y": rows, "left": left, "right": left + width, "width": width, "arm": names, "part": [part.name] * len(rows)}
        hatch: dict[str, Any] = {
            "hatch_pattern": HATCHES.get(part.name, " "),
            "hatch_color": INK,
            "hatch_alpha": 0.5,
            "hatch_scale": 7.0,
        }
        bars.append(_bar(plot, data, "left", "right", 0.4, _colour(part), **hatch))
        left = left + width
    load = np.array([loads[arm] or np.nan for arm in splits]) * unit.scale  # no bar where nothing is loaded
    data = {"y": rows + 0.3, "zero": rows * 0, "width": load, "arm": names, "part": ["load, hidden or not"] * len(rows)}
    bars.append(_bar(plot, data, "zero", "width", 0.13, BLUE))
    words = [
        f"{shortened(name, 44)}: {total:,.4g} {unit.name}" + (" (cut off)" if total > edge * unit.scale * 1.001 else "")
        for name, total in zip(names, left, strict=True)
    ]
    look: dict[str, Any] = {"text_color": INK, "text_font_size": "12px", "text_baseline": "bottom", "text_font_style": "bold"}
    plot.text(x=np.zeros(len(rows)), y=rows - 0.24, text=words, **look)
    hover(plot, bars, [("arm", "@arm"), ("part", "@part"), ("mean", f"@width{{0,0.[000]}} {unit.name}")])
    keys = [Key(part.name, _colour(part), HATCHES.get(part.name, "")) for part in PARTS]
    return Interactive(plot, keys=[*keys, Key("load: first fetch to last byte in place", BLUE, "")])


def _colour(part: Part) -> str:
    return PAPER if part.colour == "#ffffff" else part.colour


def _bar(
    plot: figure, data: dict[str, Any], left: str, right: str, height: float, colour: str, **more: Any
) -> "GlyphRenderer[Any]":
    look: dict[str, Any] = {"fill_color": colour, "line_color": INK, "line_width": 0.6}
    return plot.hbar(y="y", left=left, right=right, height=height, source=table(data), **look, **more)
