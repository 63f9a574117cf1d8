"""Which share of the requests had their first token within a given time, an arm a curve."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.reporting.figures.style import Look, arm_label, candidates, figure, looks, scale_axis, unit_of
from harness.results.evidence import Evidence
from harness.stats.quantiles import Floats


def draw(evidence: Evidence) -> Figure | None:
    """ECDF of TTFT over all counted requests; the legend runs from the fastest median to the slowest.

    None where no request counts.
    """
    times = {arm: np.sort(evidence.of(arm)["ttft_s"].to_numpy(float)) for arm in evidence.arms}
    times = {arm: values for arm, values in times.items() if len(values)}
    if not times:
        return None
    everything = np.concatenate(list(times.values()))
    unit, look = unit_of(everything), looks(evidence.arms)
    picture = figure(evidence, "How soon the first token came: ECDF of TTFT", 8, 4.6)
    axes = picture.subplots()
    for arm, values in sorted(times.items(), key=lambda item: float(np.median(item[1]))):
        line = curve(axes, values * unit.scale, look[arm.name])
        line.set_label(f"{arm_label(arm)}\nn = {len(values):,}")
    scale_axis(axes.xaxis, everything * unit.scale, heart=candidates(evidence) * unit.scale)
    axes.set_xlabel(f"TTFT at the client ({unit.name})")
    axes.set_ylabel("share of requests")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], ["0", "25%", "50%", "75%", "90%", "100%"])
    axes.set_ylim(0, 1.02)
    axes.grid(True)
    axes.set_axisbelow(True)
    picture.legend(loc="outside right upper", fontsize=8, handlelength=3.6, labelspacing=0.9)
    return picture


def curve(axes: Axes, values: Floats, look: Look) -> Line2D:
    """The ECDF of sorted ``values``, shape (n,), as a step line; returns it."""
    share = np.arange(1, len(values) + 1) / len(values)
    return axes.step(
        np.concatenate([values[:1], values]),
        np.concatenate([[0.0], share]),
        where="post",
        color=look.colour,
        linestyle=look.line,
        linewidth=1.8,
        marker=look.marker,
        markersize=6,
        # A few markers at the same shares on every curve: they tell the curves apart without colour.
        markevery=sorted({int(np.ceil(len(values) * at)) for at in (0.1, 0.3, 0.5, 0.7, 0.9)}),
    )[0]
