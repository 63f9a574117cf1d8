"""TTFT of each prompt beside the same prompt's TTFT in the first arm."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reporting.figures.spread import RASTER_FROM
from harness.reporting.figures.style import INK, Look, Unit, arm_label, figure, looks, scale_axis, unit_of
from harness.results.evidence import Arm, Evidence

WHISKERS_UP_TO = 80
"""With more prompts than this, the range of a prompt's rounds would only be clutter."""


def ratios(evidence: Evidence, arm: Arm, first: Arm) -> pd.DataFrame:
    """One row a prompt that both arms served in the same round: ``base`` (geometric mean TTFT of
    ``first``, seconds), ``ratio`` (geometric mean over the rounds of arm / first), ``low`` and ``high``
    (smallest and largest ratio of a round)."""
    keys = ["round", "prompt"]
    mine = evidence.of(arm).groupby(keys)["ttft_s"].mean()
    base = evidence.of(first).groupby(keys)["ttft_s"].mean()
    both = pd.DataFrame({"mine": mine, "base": base}).dropna().reset_index()
    both["log"] = np.log(both["mine"] / both["base"])
    both["log_base"] = np.log(both["base"])
    grouped = both.groupby("prompt")
    return pd.DataFrame(
        {
            "base": np.exp(grouped["log_base"].mean()),
            "ratio": np.exp(grouped["log"].mean()),
            "low": np.exp(grouped["log"].min()),
            "high": np.exp(grouped["log"].max()),
        }
    )


def tables(evidence: Evidence) -> dict[Arm, pd.DataFrame]:
    """The ``ratios`` of each candidate to the first arm; of the bounds only where there is no other. Empty without a pair."""
    first = evidence.first
    if first is None:
        return {}
    others = [arm for arm in evidence.arms if arm != first]
    others = [arm for arm in others if not arm.bound] or others
    return {arm: table for arm in others if len(table := ratios(evidence, arm, first))}


def draw(evidence: Evidence) -> Figure | None:
    """A panel an arm: TTFT relative to the first arm's, over the first arm's. None without two arms to pair."""
    first, found = evidence.first, tables(evidence)
    if first is None or not found:
        return None
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    longest = max(len(table) for table in found.values())
    note = "Below 1: sooner than the first arm. A point is a prompt, the geometric mean over its rounds"
    note += "; the line spans its rounds." if longest <= WHISKERS_UP_TO else "."
    width = max(7.0, 2.0 + 3.0 * columns)
    picture = figure(evidence, "TTFT of each prompt, relative to the first arm", width, 1.4 + 2.6 * lines, note)
    panels = picture.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    bases = np.concatenate([table["base"].to_numpy(float) for table in found.values()])
    values = np.concatenate([table[["low", "high"]].to_numpy(float).ravel() for table in found.values()])
    unit, look = unit_of(bases), looks(evidence.arms)
    for axes, (arm, table) in zip(panels.flat, found.items(), strict=False):
        _panel(axes, table, arm, look[arm.name], unit)
    for axes in list(panels.flat)[len(found) :]:
        axes.set_visible(False)
    _finish(panels, bases * unit.scale, values)
    picture.supylabel("TTFT relative to the first arm", fontsize=9)
    for column in panels.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel(f"TTFT of {arm_label(first, 28)} ({unit.name})")
    return picture


def _panel(axes: Axes, table: pd.DataFrame, arm: Arm, look: Look, unit: Unit) -> None:
    axes.axhline(1.0, color=INK, linewidth=1)
    at = table["base"] * unit.scale
    if len(table) <= WHISKERS_UP_TO:
        axes.vlines(at, table["low"], table["high"], color=look.colour, linewidth=0.8, alpha=0.7)
    axes.scatter(
        at,
        table["ratio"],
        s=22 if len(table) < 500 else 6,
        marker=look.marker,
        color=look.colour,
        alpha=0.85 if len(table) < 500 else 0.4,
        linewidths=0.8 if arm.bound else 0,
        rasterized=len(table) > RASTER_FROM,
    )
    sooner = int((table["ratio"] < 1).sum())
    axes.set_title(f"{arm_label(arm, 30)}\n{sooner:,} of {len(table):,} prompts sooner", fontsize=8.5, loc="left")
    axes.grid(True)
    axes.set_axisbelow(True)


def _finish(
    panels: "np.ndarray[tuple[int, int], np.dtype[np.object_]]", bases: "np.ndarray[Any, Any]", values: "np.ndarray[Any, Any]"
) -> None:
    axes = panels[0, 0]
    scale_axis(axes.xaxis, bases)
    scale_axis(axes.yaxis, np.append(values, 1.0))
    low, high = min(float(values.min()), 1.0), max(float(values.max()), 1.0)
    axes.set_ylim(low / 1.08, high * 1.08)
