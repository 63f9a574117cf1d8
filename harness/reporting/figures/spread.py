"""TTFT of every single request, an arm a row, with a box over it."""

import numpy as np
from matplotlib.figure import Figure

from harness.reporting.figures.style import INK, arm_label, candidates, figure, looks, scale_axis, unit_of
from harness.results.evidence import Evidence

RASTER_FROM = 2000
"""From so many points on, an SVG holds the points as an image: as vectors the file would be tens of MB."""


def draw(evidence: Evidence) -> Figure | None:
    """Boxes (quartiles, median, whiskers from 5% to 95%) and all points. None where no request counts."""
    times = {arm: evidence.of(arm)["ttft_s"].to_numpy(float) for arm in evidence.arms}
    times = {arm: values for arm, values in times.items() if len(values)}
    if not times:
        return None
    everything = np.concatenate(list(times.values()))
    unit, look = unit_of(everything), looks(evidence.arms)
    note = "Box: quartiles and median. Whiskers: 5% to 95%. Every point is one request."
    picture = figure(evidence, "TTFT of every request", 8, 1.5 + 0.75 * len(times), note)
    axes = picture.subplots()
    rng = np.random.default_rng(0)  # only spreads the points across the row
    for row, (arm, values) in enumerate(times.items()):
        axes.scatter(
            values * unit.scale,
            row + 0.16 + rng.uniform(0.0, 0.26, len(values)),
            s=14 if len(values) < 500 else 5,
            marker=look[arm.name].marker,
            color=look[arm.name].colour,
            alpha=0.65 if len(values) < 500 else 0.3,
            linewidths=0.8 if arm.bound else 0,
            rasterized=len(everything) > RASTER_FROM,
        )
    boxes = axes.boxplot(
        [values * unit.scale for values in times.values()],
        positions=np.arange(len(times)) - 0.08,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.3,
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": INK, "linewidth": 2},
    )
    for arm, box in zip(times, boxes["boxes"], strict=True):
        box.set(facecolor="white", edgecolor=look[arm.name].colour, linewidth=1.4)
    axes.set_yticks(range(len(times)), [f"{arm_label(arm)}\nn = {len(values):,}" for arm, values in times.items()])
    axes.set_ylim(len(times) - 0.4, -0.5)
    scale_axis(axes.xaxis, everything * unit.scale, heart=candidates(evidence) * unit.scale)
    axes.set_xlabel(f"TTFT at the client ({unit.name})")
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    return picture
