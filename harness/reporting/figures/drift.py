"""TTFT run after run in the order of time, so that drift and outliers show."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from harness.core.text import without_secrets
from harness.reporting.figures import thin
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.style import candidates, dots, gridded, looks, scale_axis, three_digits, unit_of
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Picture | None:
    """Median TTFT of each run and, faint, its requests; void runs are marked on the axis. None if no run counts."""
    rows = evidence.rows
    if rows.empty:
        return None
    everything = rows["ttft_s"].to_numpy(float)
    shown = rows.iloc[thin.cloud(everything, rows["run"].to_numpy(int), thin.MOST)]
    unit, look = unit_of(everything), looks(evidence.arms)
    note = "Lines: median of a run. Faint points: its requests. A slope that all lines share is drift, which cancels in ratios."
    lost = evidence.left_out
    left_out = "Crosses at the bottom: runs that do not count." if lost else ""
    thinned = thin.note(len(shown), len(rows), "requests")
    picture = figure(evidence, "TTFT run after run", 8, 4.2, note, left_out, thinned)
    axes = picture.subplots()
    for arm in evidence.arms:
        mine, style = evidence.of(arm), look[arm.name]
        if mine.empty:
            continue
        some = shown[shown["arm"] == arm.name]
        picture.mark(dots(axes, some["run"], some["ttft_s"] * unit.scale, style, 2.6, 0.25), arm)
        runs = mine.groupby("run")["ttft_s"].agg(["median", "size"])
        at, medians = runs.index.to_numpy(float), runs["median"].to_numpy(float) * unit.scale
        line = axes.plot(at, medians, color=style.colour, linestyle=style.line, marker=style.marker, linewidth=1.5, markersize=6)[
            0
        ]
        told = zip(runs.index, medians, runs["size"], strict=True)
        picture.mark(
            line, arm, [f"{arm.name}, run {n}: median {three_digits(ms)} {unit.name} of {size:,}" for n, ms, size in told]
        )
        picture.entry(line, arm, f"{len(runs)} run{'s' if len(runs) > 1 else ''}")
    label = f"TTFT at the client ({unit.name})"
    scale_axis(axes.yaxis, everything * unit.scale, label, zero=True, heart=candidates(evidence) * unit.scale)
    if lost:
        bottom, across = np.full(len(lost), 0.02), axes.get_xaxis_transform()
        crosses = axes.plot([run.run for run in lost], bottom, "kx", transform=across, label="excluded")[0]
        picture.mark(crosses, None, [f"{run.arm}, run {run.run}: {without_secrets(run.reason)}" for run in lost])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("run, in the order of time")
    gridded(axes, "y")
    picture.arms_legend()
    return picture
