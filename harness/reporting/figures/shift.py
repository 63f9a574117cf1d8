"""The shift function: TTFT of each arm over the first arm's, quantile by quantile."""

from collections.abc import Collection, Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from harness.core.errors import TtftError
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.ratio_axis import lowest_of, panel_size, panels_of, scale_ratios
from harness.reporting.figures.style import INK, Look, arm_label, gridded, looks, path
from harness.results.evidence import Arm, Evidence
from harness.stats import Shift, requests_least, requests_needed, shift_function
from harness.stats.shift import DECILES

ENOUGH_ROUNDS = 8
LEAST = (0.8, 1.25)
"""Ratios that the axis shows at least, so that noise does not fill it."""


def shifts(evidence: Evidence) -> dict[Arm, Shift]:
    """The shift function of each candidate against the first arm, over the deciles that the shortest run has enough
    requests for.

    Empty if there are fewer than 3 rounds of both arms, or fewer than 3 deciles. The bounds are compared
    only if there is no other candidate.
    """
    first, rows = evidence.first, evidence.rows
    if first is None or rows.empty:
        return {}
    smallest = int(rows.groupby("run").size().min())
    told = [name for name in DECILES if requests_least(name) <= smallest]
    others = [arm for arm in evidence.arms if arm != first and len(evidence.of(arm))]
    others = [arm for arm in others if not arm.bound] or others
    found = {}
    for arm in others if len(told) >= 3 and len(evidence.of(first)) else ():
        try:
            found[arm] = shift_function(rows, first.name, arm.name, told)
        except TtftError:  # too few rounds have both arms
            continue
    return found


def draw(evidence: Evidence) -> Picture | None:
    """One panel per arm: the ratio at each decile with intervals that hold for all of them at once. None if there is none."""
    found, first = shifts(evidence), evidence.first
    if not found or first is None:
        return None
    note = "Below 1: faster than the first arm. Flat: all requests gain alike. Bars: 95% intervals, all deciles at once."
    title = "Shift function: fast and slow requests, relative to the first arm"
    picture = figure(evidence, title, *panel_size(len(found)), note)
    picture.aside.notes += _cautions(evidence, found.values())
    panels, look = panels_of(picture, len(found)), looks(evidence.arms)
    for axes, (arm, shift) in zip(panels, found.items(), strict=True):
        _panel(picture, axes, arm, shift, look[arm.name])
    scale_ratios(panels[0].yaxis, limits(list(found.values())), LEAST)
    picture.supylabel(f"TTFT relative to {arm_label(first, 40)}", fontsize=9)
    for axes in lowest_of(panels):
        axes.set_xlabel("quantile of TTFT")
    return picture


def _cautions(evidence: Evidence, found: Collection[Shift]) -> Iterator[str]:
    """What limits it: too few rounds or requests."""
    smallest = int(evidence.rows.groupby("run").size().min())
    names = next(iter(found)).quantiles
    thin = [name for name in names if smallest < requests_needed(name)]
    if thin:
        yield f"{', '.join(thin)} have few requests per run ({smallest})."
    rounds = min(shift.n_pairs for shift in found)
    if rounds < ENOUGH_ROUNDS:
        yield f"{rounds} rounds are few for intervals that hold for {len(names)} deciles at once; {ENOUGH_ROUNDS} are better."


def limits(found: list[Shift]) -> tuple[float, float]:
    """The range of a ratio axis that holds every estimate, 1, and the bounds within a factor of 3 beyond them."""
    ratios = np.concatenate([[1.0], *(shift.ratios for shift in found)])
    ends = np.concatenate([np.concatenate([shift.lows, shift.highs]) for shift in found])
    ends = ends[(ends > ratios.min() / 3) & (ends < ratios.max() * 3)]
    everything = np.concatenate([ratios, ends])
    return float(everything.min()), float(everything.max())


def position(quantile: str) -> float:
    """``p30`` as 0.3."""
    return float(quantile[1:]) / 100


def _panel(picture: Picture, axes: Axes, arm: Arm, shift: Shift, look: Look) -> None:
    at = np.array([position(name) for name in shift.quantiles])
    axes.axhline(1.0, color=INK, linewidth=1)
    axes.vlines(at, shift.lows, shift.highs, color=look.colour, linewidth=1.2)
    line = path(axes, at, shift.ratios, look)
    told = zip(shift.quantiles, shift.ratios, shift.lows, shift.highs, strict=True)
    picture.mark(line, arm, [f"{arm.name}, {name}: {ratio:.3f} ({low:.3f} to {high:.3f})" for name, ratio, low, high in told])
    picture.mark(axes, arm)
    axes.set_title(f"{arm_label(arm, 30)}\n{shift.n_pairs} rounds", fontsize=8.5, loc="left")
    axes.set_xticks([0.1, 0.3, 0.5, 0.7, 0.9])
    axes.set_xlim(0.03, 0.97)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    gridded(axes)
