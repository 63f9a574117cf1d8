"""Where the time went: the mean TTFT of an arm, cut into its parts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from harness.reporting.figures.picture import Picture, figure
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
    plain_number,
    three_digits,
    unit_of,
)
from harness.reporting.waited import waited_s
from harness.results.evidence import Arm, Evidence


@dataclass(frozen=True, slots=True)
class Part:
    """One slice of a bar."""

    name: str
    colour: str
    hatch: str


BETWEEN = Part("load between steps: the request waits, no forward does", ORANGE, "....")
"""Drawn where there is such an engine; part of ``queue_s``."""

PARTS = (
    Part("queue", "#dddddd", ".."),
    Part("lookup", PURPLE, "\\\\\\\\"),
    BETWEEN,
    Part("stall: the forward waits for loads", VERMILLION, "////"),
    Part("compute", SKY, ""),
    Part("other (client, processes)", PAPER, "xx"),
)


CUT_FROM = 1.5
"""A bound's bar is cut off if it is more than this many times the longest of a candidate."""


def split(rows: pd.DataFrame, waited: float = 0.0) -> dict[str, float]:
    """Mean seconds of each of PARTS over those of ``rows`` that have parts; together they are the mean TTFT of these.

    ``waited``: mean seconds of the queue for which the requests waited for loads between steps.

    "Other" is what no clock inside vLLM saw. Clocks of two processes meet in it; if their noise makes
    it negative it is 0.
    """
    rows = rows[rows["compute_s"].notna()]
    parts = rows[["queue_s", "lookup_s", "stall_s", "compute_s"]].fillna(0.0).mean()
    queue, lookup, stall, compute = (float(value) for value in parts)
    other = float(rows["ttft_s"].mean()) - queue - lookup - stall - compute
    waited = min(waited, queue)
    values = (queue - waited, lookup, waited, stall, compute, max(other, 0.0))
    return dict(zip((part.name for part in PARTS), values, strict=True))


def draw(evidence: Evidence) -> Picture | None:
    """One stacked bar per arm, and a thin one below it for the load, hidden or not. None if no row has parts."""
    splits = splits_of(evidence)
    if not splits:
        return None
    loads = loads_of(evidence, splits)
    unit = unit_of(np.array([edge_of(splits, loads)]))
    edge = edge_of(splits, loads) * unit.scale
    beside = "unless it stalls" if not any(parts[BETWEEN.name] for parts in splits.values()) else "where nothing waits for it"
    note = f"Means over the requests. The load overlaps with compute {beside}, so it is not part of the sum."
    picture = figure(evidence, "Where the time to first token went", 8, 2.1 + 0.75 * len(splits), note)
    axes = picture.subplots()
    for row, (arm, parts) in enumerate(splits.items()):
        _bar(picture, axes, row, arm, parts, unit, edge)
        _load(picture, axes, row, arm, loads[arm], unit)
    axes.set_yticks(range(len(splits)), [f"{arm_label(arm)}\nn = {len(evidence.of(arm)):,}" for arm in splits])
    axes.set_ylim(len(splits) - 0.4, -0.5)
    axes.set_xlim(0, edge * 1.16 or 1.0)
    axes.xaxis.set_major_formatter(plain_number)
    axes.set_xlabel(f"mean time per request ({unit.name})")
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    axes.legend(
        by_label.values(), by_label.keys(), loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, handlelength=2.4
    )
    return picture


def splits_of(evidence: Evidence) -> dict[Arm, dict[str, float]]:
    """``split`` of each arm that has parts."""
    rows = {arm: evidence.of(arm) for arm in evidence.arms}
    told = {arm: frame[frame["compute_s"].notna()] for arm, frame in rows.items()}
    return {arm: split(frame, waited_s(evidence, arm, frame)) for arm, frame in told.items() if len(frame)}


def loads_of(evidence: Evidence, arms: Iterable[Arm]) -> dict[Arm, float]:
    """Mean seconds from the first fetch to the last byte in place; 0 for an arm that loads nothing."""
    return {arm: float(evidence.of(arm)["load_s"].fillna(0.0).mean()) for arm in arms}


def edge_of(splits: Mapping[Arm, Mapping[str, float]], loads: Mapping[Arm, float]) -> float:
    """How long a bar may be, in seconds: a bound far longer than every candidate is cut off, or it would squeeze them."""
    lengths = {arm: max(sum(parts.values()), loads[arm]) for arm, parts in splits.items()}
    longest = max(lengths.values())
    measured = max((length for arm, length in lengths.items() if not arm.bound), default=longest)
    return measured * 1.15 if longest > CUT_FROM * measured else longest


def _bar(picture: Picture, axes: Axes, row: int, arm: Arm, parts: dict[str, float], unit: Unit, edge: float) -> None:
    total, left = sum(parts.values()) * unit.scale, 0.0
    cut = total > edge * 1.001
    for part in PARTS:
        if part is BETWEEN and not parts[part.name]:
            continue
        width = parts[part.name] * unit.scale
        look: dict[str, Any] = {"color": part.colour, "hatch": part.hatch, "edgecolor": INK, "linewidth": 0.6, "label": part.name}
        shown = max(0.0, min(width, edge - left))
        bar = axes.barh(row - 0.08, shown, 0.42, left=min(left, edge), **look)[0]
        picture.mark(bar, arm, [f"{arm.name}, {part.name}: {three_digits(width)} {unit.name}"])
        left += width
    if cut:  # two slanted lines across the end say so
        for place in (0.985, 0.995):
            slant = np.array([place - 0.006, place + 0.006]) * edge
            axes.plot(slant, [row + 0.2, row - 0.36], color=PAPER, linewidth=2.5, solid_capstyle="butt", zorder=3)
    words = f"{three_digits(total)} {unit.name}" + (" (cut off)" if cut else "")
    picture.mark(_beside(axes, min(total, edge), row - 0.08, words, fontsize=8.5, fontweight="bold"), arm)


def _load(picture: Picture, axes: Axes, row: int, arm: Arm, load: float, unit: Unit) -> None:
    if load <= 0:
        return
    width = load * unit.scale
    label = "load: first fetch to last byte in place"
    bar = axes.barh(row + 0.24, width, 0.14, color=PAPER, hatch="-----", edgecolor=BLUE, linewidth=0.8, label=label)[0]
    picture.mark(bar, arm, [f"{arm.name}, {label}: {three_digits(width)} {unit.name}"])
    picture.mark(_beside(axes, width, row + 0.24, f"load {three_digits(width)} {unit.name}", fontsize=7.5, color=BLUE), arm)


def _beside(axes: Axes, x: float, y: float, words: str, **look: Any) -> Annotation:
    return axes.annotate(words, (x, y), (5, 0), textcoords="offset points", va="center", **look)
