"""What happened inside the median and the slowest request, layer by layer: when KV was fetched, when the forward waited."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.core.text import shortened
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.stories import Story, median_stories, slowest_stories
from harness.reporting.figures.style import (
    BLUE,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILLION,
    Unit,
    arm_label,
    drawable,
    gridded,
    plain_number,
    unit_of,
)
from harness.results.evidence import Evidence

PIXELS, SHORT = 1200, 4
"""Pixels of a time axis. Spans of fewer than SHORT are drawn as one with neighbours that are less than one away."""
NEAR = 0.01
"""A request whose TTFT is this share off, or less, is as good as the one that was looked for."""
SQUEEZE = 6
"""Panels share a time axis while the longest is no more than this many times the shortest."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of span is drawn: colour, hatch, and from where to where within a layer's row (0 top, 1 bottom)."""

    label: str
    colour: str
    hatch: str
    top: float
    bottom: float


KINDS = {
    "lookup": Kind("lookup", PURPLE, "\\\\\\\\", 0.1, 0.9),
    "fetch": Kind("fetch", BLUE, "", 0.05, 0.6),
    "copy": Kind("copy into\nthe paged cache", ORANGE, "....", 0.3, 0.6),
    "wait": Kind("wait: the forward\nstands still", VERMILLION, "////", 0.5, 0.95),
    "forward": Kind("forward", SKY, "", 0.1, 0.9),
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows a panel has: one row per kind for what concerns all layers (``lanes`` for reads that
    overlap), below them ``layers`` rows for single layers."""

    kinds: tuple[str, ...]
    lanes: int
    layers: int

    def first(self, kind: str) -> int:
        """The first row of a kind among those of all layers; of the layers for ``""``."""
        before = self.kinds[: self.kinds.index(kind)] if kind else self.kinds
        return sum(self.height(name) for name in before)

    def height(self, kind: str) -> int:
        """Rows of a kind among those of all layers."""
        return self.lanes if kind in ("fetch", "copy") else 1

    @property
    def total(self) -> int:
        """All rows of the panel."""
        return self.first("") + self.layers


def draw(evidence: Evidence) -> Picture | None:
    """A panel for the median request of each arm that loads, on one time axis. None if no such arm has spans."""
    note = "For each arm the request with its median TTFT, or the nearest one of which spans were kept."
    return _draw(evidence, median_stories(evidence), "Inside the median request: fetches and waits", "median", note)


def draw_slowest(evidence: Evidence) -> Picture | None:
    """The same for the slowest request of each arm."""
    note = "For each arm the request with its highest TTFT: it shows what went wrong once, not what is usual."
    return _draw(evidence, slowest_stories(evidence), "Inside the slowest request: fetches and waits", "slowest", note)


def _draw(evidence: Evidence, stories: Sequence[Story], title: str, word: str, note: str) -> Picture | None:
    if not stories:
        return None
    rows = [rows_of(story.spans, model_layers(evidence)) for story in stories]
    heights = [min(max(0.8, 0.12 * panel.total), 4.0) for panel in rows]
    if any(((story.spans["kind"] == "wait") & (story.spans["layer"] >= 0)).any() for story in stories):
        note += " A wait as thin as a line took no time: there a layer's attention began."
    # One scale shows which arm is done first; if it would squeeze an arm to nothing, each panel gets its own.
    ends = [float(story.spans["end_s"].max()) for story in stories]
    shared = max(ends) <= SQUEEZE * min(ends)
    note += "" if shared else " The panels have different time axes."
    units = [unit_of(np.array(ends if shared else [end])) for end in ends]
    gap = 0.6 if shared else 0.95
    picture = figure(evidence, title, 9, 1.4 + sum(height + gap for height in heights), note)
    panels = picture.subplots(len(stories), 1, squeeze=False, sharex=shared, height_ratios=heights)[:, 0]
    for axes, story, panel, unit, end in zip(panels, stories, rows, units, ends, strict=True):
        end = max(ends) if shared else end
        _panel(picture, axes, story, panel, unit, end)
        axes.set_title(_told(story, word, unit), loc="left", fontsize=8.5)
        axes.set_xlim(0, end * unit.scale * 1.02)  # not by itself: a limit set once stays
        if not shared or axes is panels[-1]:
            axes.set_xlabel(f"time since the request's first span ({unit.name})", fontsize=8)
    _legend(picture, set(pd.concat([story.spans["kind"] for story in stories])))
    return picture


def _told(story: Story, word: str, unit: Unit) -> str:
    """Which request a panel shows; if it is not the one that was looked for, how far it is from it."""
    took, aim = f"{story.ttft_s * unit.scale:,.4g}", f"{story.aim_s * unit.scale:,.4g}"
    other = f" ({word} of the arm: {aim} {unit.name})" if abs(story.ttft_s / story.aim_s - 1) > NEAR else ""
    request = f"prompt {shortened(drawable(story.prompt), 40)} of run {story.run}, TTFT {took} {unit.name}{other}"
    return f"{arm_label(story.arm, 70)}\n{request}"


def _legend(picture: Figure, kinds: set[str]) -> None:
    handles = [
        Patch(facecolor=kind.colour, hatch=kind.hatch, edgecolor=INK, linewidth=0.5, label=kind.label)
        for name, kind in KINDS.items()
        if name in kinds
    ]
    picture.legend(handles=handles, loc="outside right upper", fontsize=8, labelspacing=1.0)


def model_layers(evidence: Evidence) -> int:
    """Layers of the model as run.json has it; 0 if it does not."""
    layers = (evidence.run.meta.get("geometry") or {}).get("layers", 0)
    return layers if isinstance(layers, int) else 0


def rows_of(spans: pd.DataFrame, model_layers: int = 0) -> Rows:
    """The rows that ``spans`` need. A fetch of several layers bears the first one's number, so that the model's
    ``model_layers`` say how far the last one reaches."""
    overall = spans[spans["layer"] < 0]
    kinds = tuple(kind for kind in KINDS if (overall["kind"] == kind).any())
    lanes = overall.loc[overall["kind"].isin(["fetch", "copy"]), "lane"]
    seen = int(spans["layer"].max()) + 1
    return Rows(kinds, int(lanes.max()) + 1 if len(lanes) else 1, max(seen, model_layers) if seen > 0 else 0)


def _panel(picture: Picture, axes: Axes, story: Story, rows: Rows, unit: Unit, end: float) -> None:
    spans = merged(story.spans, end / PIXELS)
    loaded = np.unique(spans.loc[(spans["kind"] == "fetch") & (spans["layer"] >= 0), "layer"].to_numpy(int))
    for name, kind in KINDS.items():
        mine = spans[spans["kind"] == name]
        boxes, told = [], []
        for layer, lane, start, stop in zip(mine["layer"], mine["lane"], mine["start_s"], mine["end_s"], strict=True):
            left, right = start * unit.scale, stop * unit.scale
            if layer < 0:
                top, bottom = rows.first(name) + lane + 0.1, rows.first(name) + lane + 0.9
            else:
                top = rows.first("") + layer + kind.top
                bottom = rows.first("") + layer + layers_of(name, layer, loaded, rows.layers) - 1 + kind.bottom
            boxes.append([(left, top), (left, bottom), (right, bottom), (right, top)])
            told.append(f"{name}{f', layer {layer}' if layer >= 0 else ''}: {left:,.4g} to {right:,.4g} {unit.name}")
        edge = INK if kind.hatch else PAPER
        bars = PolyCollection(boxes, facecolors=kind.colour, hatch=kind.hatch, edgecolors=edge, linewidths=0.3)
        if boxes:
            picture.mark(axes.add_collection(bars), story.arm, told)
    picture.mark(axes, story.arm)
    _label_rows(axes, rows)
    axes.xaxis.set_major_formatter(plain_number)
    gridded(axes, "x")


def merged(spans: pd.DataFrame, pixel: float) -> pd.DataFrame:
    """``spans`` with those of one kind, layer and lane in one that are short (SHORT pixels, in seconds) and touch."""
    spans = spans.sort_values(["kind", "layer", "lane", "start_s"], kind="stable")
    place = spans[["kind", "layer", "lane"]]
    same = (place == place.shift()).all(axis=1)
    short = (spans["end_s"] - spans["start_s"] < SHORT * pixel) & (spans["start_s"] - spans["end_s"].shift() < pixel)
    bars = (~(same & short)).cumsum()
    first = {name: (name, "first") for name in ("kind", "layer", "lane", "start_s")}
    return spans.groupby(bars).agg(**first, end_s=("end_s", "max"))


def layers_of(kind: str, layer: int, loaded: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", layers: int) -> int:
    """How many layers a span covers: a fetch or copy of several reaches to the next one's layer."""
    if kind not in ("fetch", "copy"):
        return 1
    behind = loaded[loaded > layer]
    return int(behind[0] if len(behind) else layers) - layer


def _label_rows(axes: Axes, rows: Rows) -> None:
    ticks = [rows.first(kind) + rows.height(kind) / 2 for kind in rows.kinds]
    labels = [f"{kind} ({rows.lanes} at once)" if rows.height(kind) > 1 else kind for kind in rows.kinds]
    every = max(1, -(-rows.layers // 8))
    for layer in range(0, rows.layers, every):
        ticks.append(rows.first("") + layer + 0.5)
        labels.append(f"layer {layer}")
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set_ylim(rows.total, 0)
