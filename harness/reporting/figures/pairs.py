"""TTFT of each prompt beside the same prompt's TTFT in the first arm."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.reporting.figures import thin
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.ratio_axis import lowest_of, panel_size, panels_of, room, scale_ratios
from harness.reporting.figures.style import INK, Look, Unit, arm_label, dots, gridded, looks, scale_axis, unit_of
from harness.results.evidence import Arm, Evidence

LEAST_RATIO, LEAST_BASE = (0.5, 2.0), 1.25
"""What the axes show at least, so that noise does not fill them: ratios, and a factor about the middle TTFT."""
WHISKERS_UP_TO = 80
"""With more prompts than this, the range of a prompt's rounds would only be clutter."""


def ratios(evidence: Evidence, arm: Arm, first: Arm) -> pd.DataFrame:
    """One row per prompt that both arms served in the same round: ``base`` (geometric mean TTFT of
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
    """The ``ratios`` of each candidate to the first arm; bounds only if there is no other candidate. Empty without a pair."""
    first = evidence.first
    if first is None:
        return {}
    others = [arm for arm in evidence.arms if arm != first]
    others = [arm for arm in others if not arm.bound] or others
    return {arm: table for arm in others if len(table := ratios(evidence, arm, first))}


def draw(evidence: Evidence) -> Picture | None:
    """One panel per arm: TTFT relative to the first arm's, over the first arm's. None without two arms to pair."""
    first, found = evidence.first, tables(evidence)
    if first is None or not found:
        return None
    whiskers = max(map(len, found.values())) <= WHISKERS_UP_TO
    shown = {arm: table.iloc[_some(table, thin.MOST // len(found))] for arm, table in found.items()}
    note = "Below 1: faster than the first arm. A point is a prompt, the geometric mean over its rounds"
    note += "; the line spans its rounds." if whiskers else "."
    left_out = thin.note(sum(map(len, shown.values())), sum(map(len, found.values())), "prompts")
    picture = figure(evidence, "TTFT of each prompt, relative to the first arm", *panel_size(len(found)), note, left_out)
    panels = panels_of(picture, len(found))
    bases = np.concatenate([table["base"].to_numpy(float) for table in found.values()])
    unit, look = unit_of(bases), looks(evidence.arms)
    for axes, (arm, table) in zip(panels, shown.items(), strict=True):
        _panel(picture, axes, table, whiskers, arm, look[arm.name], unit)
        faster = int((found[arm]["ratio"] < 1).sum())
        axes.set_title(f"{arm_label(arm, 30)}\n{faster:,} of {len(found[arm]):,} prompts faster", fontsize=8.5, loc="left")
    scale_axis(panels[0].xaxis, bases * unit.scale)
    panels[0].set_xlim(*room(bases * unit.scale, LEAST_BASE))
    values = np.concatenate([table[["low", "high"]].to_numpy(float).ravel() for table in shown.values()])
    scale_ratios(panels[0].yaxis, [*values, 1.0], LEAST_RATIO)
    picture.supylabel("TTFT relative to the first arm", fontsize=9)
    for axes in lowest_of(panels):
        axes.set_xlabel(f"TTFT of {arm_label(first, 28)} ({unit.name})")
    return picture


def _some(table: pd.DataFrame, most: int) -> thin.Indices:
    return thin.cloud(table["ratio"].to_numpy(float), np.zeros(len(table)), most)


def _panel(picture: Picture, axes: Axes, table: pd.DataFrame, whiskers: bool, arm: Arm, look: Look, unit: Unit) -> None:
    axes.axhline(1.0, color=INK, linewidth=1)
    at = table["base"].to_numpy(float) * unit.scale
    if whiskers:
        axes.vlines(at, table["low"], table["high"], color=look.colour, linewidth=0.8, alpha=0.7)
    few = len(table) < 250
    points = dots(axes, at, table["ratio"], look, 4.7 if few else 2.4, 0.85 if few else 0.4)
    told = zip(table.index, table["ratio"], table["low"], table["high"], strict=True)
    picture.mark(points, arm, [f"{prompt}: {ratio:.3f} ({low:.3f} to {high:.3f})" for prompt, ratio, low, high in told])
    picture.mark(axes, arm)
    gridded(axes)
