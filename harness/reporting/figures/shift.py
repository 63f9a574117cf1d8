"""The shift function: TTFT of each arm over the first arm's, quantile by quantile."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from harness.core.errors import TtftError
from harness.reporting.figures.style import INK, Look, arm_label, figure, looks, scale_axis
from harness.results.evidence import Arm, Evidence
from harness.stats import Shift, requests_least, shift_function
from harness.stats.shift import DECILES


def shifts(evidence: Evidence) -> dict[Arm, Shift]:
    """The shift function of each candidate against the first arm, over the deciles that the shortest run can tell.

    Empty where it can't be told: fewer than 3 rounds of both arms, or fewer than 3 deciles. The bounds are compared
    only where there is no other candidate.
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


def draw(evidence: Evidence) -> Figure | None:
    """A panel an arm: the ratio at each decile with intervals that hold for all of them at once. None where untold."""
    found, first = shifts(evidence), evidence.first
    if not found or first is None:
        return None
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    note = "Below 1: sooner than the first arm. Flat: all requests gain alike. Bars: 95% intervals, all deciles at once."
    title = "Shift function: fast and slow requests, relative to the first arm"
    picture = figure(evidence, title, max(7.0, 2.0 + 3.0 * columns), 1.4 + 2.6 * lines, note)
    panels = picture.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    look = looks(evidence.arms)
    for axes, (arm, shift) in zip(panels.flat, found.items(), strict=False):
        _panel(axes, arm, shift, look[arm.name])
    for axes in list(panels.flat)[len(found) :]:
        axes.set_visible(False)
    low, high = limits(list(found.values()))
    scale_axis(panels[0, 0].yaxis, np.array([low, high]))
    panels[0, 0].set_ylim(low / 1.05, high * 1.05)
    picture.supylabel(f"TTFT relative to {arm_label(first, 40)}", fontsize=9)
    for column in panels.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("quantile of TTFT")
    return picture


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


def _panel(axes: Axes, arm: Arm, shift: Shift, look: Look) -> None:
    at = np.array([position(name) for name in shift.quantiles])
    axes.axhline(1.0, color=INK, linewidth=1)
    axes.vlines(at, shift.lows, shift.highs, color=look.colour, linewidth=1.2)
    axes.plot(at, shift.ratios, color=look.colour, linestyle=look.line, marker=look.marker, linewidth=1.2, markersize=5)
    rounds = f"{shift.n_pairs} rounds"
    axes.set_title(f"{arm_label(arm, 30)}\n{rounds}", fontsize=8.5, loc="left")
    axes.set_xticks([0.1, 0.3, 0.5, 0.7, 0.9])
    axes.set_xlim(0.03, 0.97)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(True)
    axes.set_axisbelow(True)
