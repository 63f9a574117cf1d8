"""What an arm's neighbours wait for: how often a gap between two of their tokens is longer than a given time."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from harness.reporting.figures.style import arm_label, figure, looks, scale_axis, unit_of
from harness.results.evidence import Evidence
from harness.results.side_tables import load_neighbours

SHOWN = 4000
"""Points of a curve at most; the longest gaps are all kept."""


def draw(evidence: Evidence) -> Figure | None:
    """The share of gaps above each length, both axes logarithmic: stalls are the tail on the right. None without neighbours."""
    heard = load_neighbours(evidence.run.path)
    heard = heard[(heard["kind"] == "decode") & heard["run"].isin(evidence.rows["run"].unique())]
    if heard.empty:
        return None
    everything = heard["value_s"].to_numpy(float)
    unit, look = unit_of(everything), looks(evidence.arms)
    note = "Neighbours are requests that only decode while the measured ones load. A blocking load holds up all of them."
    picture = figure(evidence, "What the neighbours waited for: gaps between their tokens", 8, 4.4, note)
    axes = picture.subplots()
    for arm in evidence.arms:
        gaps = np.sort(heard.loc[heard["arm"] == arm.name, "value_s"].to_numpy(float))
        if not len(gaps):
            continue
        above = 1 - np.arange(len(gaps)) / len(gaps)
        kept = np.unique(
            np.concatenate([np.linspace(0, len(gaps) - 1, SHOWN).astype(int), np.arange(max(len(gaps) - 200, 0), len(gaps))])
        )
        style = look[arm.name]
        axes.step(
            gaps[kept] * unit.scale,
            above[kept],
            where="pre",
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            markevery=[
                0,
                *(int(np.searchsorted(-above[kept], -share)) for share in (0.1, 0.01) if share > 1 / len(gaps)),
                len(kept) - 1,
            ],
            markersize=6,
            linewidth=1.6,
            label=f"{arm_label(arm)}\nn = {len(gaps):,} gaps",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    scale_axis(axes.xaxis, everything * unit.scale)
    axes.set_xlabel(f"gap between two tokens ({unit.name})")
    axes.set_ylabel("share of gaps that are at least as long")
    axes.grid(True)
    axes.set_axisbelow(True)
    picture.legend(loc="outside right upper", fontsize=8, handlelength=3.6, labelspacing=0.9)
    return picture
