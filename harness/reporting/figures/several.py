"""Pictures of several measurements side by side; nothing is pooled over them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from harness.reporting.figures import thin
from harness.reporting.figures.ecdf import curve
from harness.reporting.figures.picture import Picture, titled
from harness.reporting.figures.ratio_axis import scale_ratios
from harness.reporting.figures.save import save_all
from harness.reporting.figures.style import (
    INK,
    arm_label,
    drawable,
    gridded,
    looks,
    path,
    scale_axis,
    three_digits,
    unit_of,
)
from harness.results.evidence import Arm, Evidence
from harness.stats import Comparison, Interval

Runs = Mapping[str, Evidence]
"""Label of a measurement -> its evidence; all of them list the same arms in the same order."""
Ratios = Sequence[tuple[str, Arm, Comparison]]
"""Label of the measurement, arm, and the arm's ratio to that measurement's first one."""
Levels = Mapping[Arm, Sequence[tuple[int, Interval]]]
"""Arm -> concurrency and TTFT in seconds."""


def draw_several(runs: Runs, ratios: Ratios, levels: Levels, folder: Path) -> list[Path]:
    """Write the pictures that can be drawn as PNG and SVG; returns the files. Raises ResultsError if it cannot write."""
    drawn = {"ecdf": partial(ecdfs, runs), "ratios": partial(forest, runs, ratios)}
    drawn["concurrency"] = partial(concurrency, runs, levels)
    return save_all(drawn.items(), folder)


def ecdfs(runs: Runs) -> Picture | None:
    """One panel per measurement on one time axis; None if no request counts."""
    runs = {label: evidence for label, evidence in runs.items() if len(evidence.rows)}
    if not runs:
        return None
    everything = np.concatenate([evidence.rows["ttft_s"].to_numpy(float) for evidence in runs.values()])
    unit, arms = unit_of(everything), next(iter(runs.values())).arms
    look = looks(arms)
    picture = titled("ECDF of TTFT, measurement by measurement", 8, 0.9 + 2.5 * len(runs), ())
    panels = picture.subplots(len(runs), 1, squeeze=False, sharex=True)[:, 0]
    entries = {}
    for axes, (label, evidence) in zip(panels, runs.items(), strict=True):
        for arm in arms:
            times = np.sort(evidence.of(arm)["ttft_s"].to_numpy(float)) * unit.scale
            if len(times):
                entries[arm], marks = curve(axes, times, thin.curve(len(times), thin.MOST // len(arms)), look[arm.name])
                picture.mark(entries[arm], arm, [f"{label}, {arm.name}"])
                picture.mark(marks, arm)
        axes.set_title(drawable(label), loc="left", fontsize=9)
        axes.set_yticks([0, 0.5, 0.9], ["0", "50%", "90%"])
        axes.set_ylim(0, 1.02)
        gridded(axes)
    for arm, line in entries.items():
        picture.entry(line, arm)
    scale_axis(panels[-1].xaxis, everything * unit.scale, f"TTFT at the client ({unit.name})")
    picture.arms_legend()
    return picture


def forest(runs: Runs, ratios: Ratios) -> Picture | None:
    """One row per measurement and arm: the ratio to its first arm with the interval; None if nothing was compared."""
    if not ratios:
        return None
    look = looks(next(iter(runs.values())).arms)
    note = "Each row pairs the rounds of one measurement; below 1: faster than its first arm."
    picture = titled("Ratio to the first arm, measurement by measurement", 8, 1.3 + 0.42 * len(ratios), (note,))
    axes = picture.subplots()
    axes.axvline(1.0, color=INK, linewidth=1)
    values = []
    for row, (label, arm, found) in enumerate(ratios):
        style = look[arm.name]
        ends = [end for end in (found.low, found.high) if 0 < end < np.inf]
        if len(ends) == 2:
            picture.mark(axes.hlines(row, ends[0], ends[1], color=style.colour, linewidth=1.6), arm)
        told = f"{label}, {arm.name}: {found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})"
        picture.mark(axes.plot([found.ratio], [row], style.marker, color=style.colour, markersize=7)[0], arm, [told])
        values += [found.ratio, *ends]
    axes.set_yticks(range(len(ratios)), [f"{arm_label(arm, 40)}\n{drawable(label)}" for label, arm, _ in ratios], fontsize=8)
    axes.set_ylim(len(ratios) - 0.5, -0.5)
    scale_ratios(axes.xaxis, [*values, 1.0])
    axes.set_xlabel(f"{ratios[0][2].metric} of TTFT / first arm's, with 95% interval")
    gridded(axes, "x")
    return picture


def concurrency(runs: Runs, levels: Levels) -> Picture | None:
    """TTFT over concurrency, one line per arm; None unless the measurements differ in it alone."""
    levels = {arm: found for arm, found in levels.items() if len(found) > 1}
    if not levels:
        return None
    times = np.array([level.value for found in levels.values() for _, level in found])
    unit, look = unit_of(times), looks(next(iter(runs.values())).arms)
    note = "Each point is a measurement with its 95% interval; the machine may have drifted between them."
    picture = titled("TTFT over concurrency", 8, 4.2, (note,))
    axes = picture.subplots()
    for arm, found in levels.items():
        style, ordered = look[arm.name], sorted(found, key=lambda point: point[0])
        at = [number for number, _ in ordered]
        middle = np.array([level.value for _, level in ordered]) * unit.scale
        for number, level in ordered:
            if level.low > 0 and level.high < np.inf:
                bar = axes.vlines(number, level.low * unit.scale, level.high * unit.scale, color=style.colour)
                picture.mark(bar, arm)
        line = path(axes, at, middle, style)
        told = zip(at, middle, strict=True)
        picture.mark(line, arm, [f"{arm.name}, {number} at once: {three_digits(time)} {unit.name}" for number, time in told])
        picture.entry(line, arm)
    scale_axis(axes.yaxis, times * unit.scale, f"TTFT at the client ({unit.name})", zero=True)
    axes.set_xticks(sorted({number for found in levels.values() for number, _ in found}))
    axes.set_xlabel("requests in flight")
    gridded(axes)
    picture.arms_legend()
    return picture
