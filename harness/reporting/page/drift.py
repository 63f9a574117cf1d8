"""Interactive: TTFT run after run."""

from typing import Any

import numpy as np

from harness.core.text import without_secrets
from harness.reporting.figures.style import INK, candidates, logarithmic, looks, unit_of
from harness.reporting.page.canvas import MARKERS, Interactive, belongs, canvas, dash, hover, numbers, table, words
from harness.reporting.page.thin import MOST, Thinning, cloud
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Interactive | None:
    """Medians of runs as lines, requests as faint points, runs left out as crosses; None where no run counts."""
    rows = evidence.rows
    if rows.empty:
        return None
    everything = rows["ttft_s"].to_numpy(float)
    unit, look = unit_of(everything), looks(evidence.arms)
    plot = canvas(
        "run, in the order of time", f"TTFT at the client ({unit.name})", y_log=logarithmic(everything, candidates(evidence))
    )
    medians, singles, names, drawn = [], [], [], 0
    for arm in evidence.arms:
        mine = evidence.of(arm)
        if mine.empty:
            continue
        style, by_run = look[arm.name], mine.groupby("run")["ttft_s"].agg(["median", "size"])
        share = max(1, MOST * len(mine) // len(rows))
        mine = mine.iloc[cloud(mine["ttft_s"].to_numpy(float), mine["run"].to_numpy(int), share)]
        drawn += len(mine)
        one = {
            "run": mine["run"].to_numpy(np.int32),
            "ttft": numbers(mine["ttft_s"] * unit.scale),
            "prompt": words(mine["prompt"]),
        }
        faint = plot.scatter("run", "ttft", source=table(one), color=style.colour, size=4, alpha=0.3)
        data = {
            "run": by_run.index.to_numpy(np.int32),
            "ttft": numbers(by_run["median"] * unit.scale),
            "n": by_run["size"].to_numpy(np.int32),
        }
        line = plot.line("run", "ttft", source=table(data), color=style.colour, line_dash=dash(style), line_width=1.5)
        dots = plot.scatter("run", "ttft", source=table(data), marker=MARKERS[style.marker], color=style.colour, size=8)
        belongs(arm.name, arm.order, faint, line, dots)
        medians.append(dots)
        singles.append(faint)
        names.append(arm.name)
    told = [("arm", "$name"), ("run", "@run")]
    hover(plot, medians, [*told, ("median TTFT", f"@ttft{{0,0.[0]}} {unit.name}"), ("requests", "@n{0,0}")])
    hover(plot, singles, [*told, ("prompt", "@prompt"), ("TTFT", f"@ttft{{0,0.[0]}} {unit.name}")])
    if evidence.left_out:
        lost = evidence.left_out
        gone: dict[str, list[Any]] = {
            "run": [run.run for run in lost],
            "y": [float(everything.min()) * unit.scale] * len(lost),
            "arm": words(run.arm for run in lost),
            "reason": words(without_secrets(run.reason) for run in lost),
        }
        crosses = plot.scatter("run", "y", source=table(gone), marker="x", line_color=INK, size=9, line_width=2)
        hover(plot, [crosses], [*told[1:], ("arm", "@arm"), ("left out", "@reason")])
    return Interactive(plot, names, [Thinning(drawn, len(rows), "requests").note])
