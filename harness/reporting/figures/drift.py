"""TTFT run after run in the order of time, so that drift and outliers show."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.reporting.figures.spread import RASTER_FROM
from harness.reporting.figures.style import arm_label, candidates, figure, looks, scale_axis, unit_of
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Figure | None:
    """Median TTFT of each run and, faint, its requests; void runs are marked on the axis. None where no run counts."""
    rows = evidence.rows
    if rows.empty:
        return None
    everything = rows["ttft_s"].to_numpy(float)
    unit, look = unit_of(everything), looks(evidence.arms)
    note = "Lines: median of a run. Faint points: its requests. Lines of one slope are drift that all arms share."
    lost = [run.run for run in evidence.left_out]
    if lost:
        note += " Crosses at the bottom: runs that do not count."
    picture = figure(evidence, "TTFT run after run", 8, 4.2, note)
    axes = picture.subplots()
    for arm in evidence.arms:
        mine = evidence.of(arm)
        if mine.empty:
            continue
        style, medians = look[arm.name], mine.groupby("run")["ttft_s"].median()
        axes.scatter(
            mine["run"].to_numpy(float),
            mine["ttft_s"].to_numpy(float) * unit.scale,
            s=7,
            color=style.colour,
            alpha=0.25,
            linewidths=0,
            rasterized=len(rows) > RASTER_FROM,
        )
        axes.plot(
            medians.index.to_numpy(float),
            medians.to_numpy(float) * unit.scale,
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            linewidth=1.5,
            markersize=6,
            label=f"{arm_label(arm)}\n{len(medians)} run{'s' if len(medians) > 1 else ''}",
        )
    scale_axis(axes.yaxis, everything * unit.scale, zero=True, heart=candidates(evidence) * unit.scale)
    if lost:
        bottom = np.full(len(lost), 0.02)
        axes.plot(lost, bottom, "kx", transform=axes.get_xaxis_transform(), label="left out")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("run, in the order of time")
    axes.set_ylabel(f"TTFT at the client ({unit.name})")
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    picture.legend(loc="outside right upper", fontsize=8, handlelength=3.6, labelspacing=0.9)
    return picture
