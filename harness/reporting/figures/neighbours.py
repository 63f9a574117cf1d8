"""What an arm's neighbours wait for: how often a gap between two of their tokens is longer than a given time."""

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from harness.reporting.figures import thin
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.style import LOGARITHMIC, gridded, looks, scale_axis, unit_of
from harness.results.evidence import Evidence
from harness.results.side_tables import load_neighbours


def draw(evidence: Evidence) -> Picture | None:
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
        kept = thin.curve(len(gaps), thin.MOST // len(evidence.arms))
        style = look[arm.name]
        marks = [int(np.searchsorted(-above[kept], -share)) for share in (0.1, 0.01) if share > 1 / len(gaps)]
        line = axes.step(
            gaps[kept] * unit.scale,
            above[kept],
            where="pre",
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            markevery=[0, *marks, len(kept) - 1],
            markersize=6,
            linewidth=1.6,
        )[0]
        picture.mark(line, arm)
        picture.entry(line, arm, f"n = {len(gaps):,} gaps")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    scale_axis(axes.xaxis, everything * unit.scale, f"gap between two tokens ({unit.name})")
    axes.set_ylabel(f"share of gaps that are at least as long\n({LOGARITHMIC})")
    gridded(axes)
    picture.arms_legend()
    return picture
