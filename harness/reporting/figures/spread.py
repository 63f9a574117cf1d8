"""TTFT of every single request, one row per arm, with a box over it."""

import numpy as np

from harness.reporting.figures import thin
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.style import INK, PAPER, arm_label, candidates, dots, gridded, looks, scale_axis, unit_of
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Picture | None:
    """Boxes (quartiles, median, whiskers from 5% to 95%) and all points. None if no request counts."""
    times = {arm: evidence.of(arm)["ttft_s"].to_numpy(float) for arm in evidence.arms}
    times = {arm: values for arm, values in times.items() if len(values)}
    if not times:
        return None
    everything = np.concatenate(list(times.values()))
    shown = {arm: values[thin.cloud(values, np.zeros(len(values)), thin.MOST // len(times))] for arm, values in times.items()}
    unit, look = unit_of(everything), looks(evidence.arms)
    note = "Box: quartiles and median. Whiskers: 5% to 95%. Every point is one request."
    left_out = thin.note(sum(map(len, shown.values())), len(everything), "requests")
    picture = figure(evidence, "TTFT of every request", 8, 1.5 + 0.75 * len(times), note, left_out)
    axes = picture.subplots()
    rng = np.random.default_rng(0)  # only spreads the points across the row
    for row, (arm, values) in enumerate(shown.items()):
        few = len(values) < 250
        height = row + 0.16 + rng.uniform(0.0, 0.26, len(values))
        picture.mark(dots(axes, values * unit.scale, height, look[arm.name], 3.7 if few else 2.2, 0.65 if few else 0.3), arm)
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
        box.set(facecolor=PAPER, edgecolor=look[arm.name].colour, linewidth=1.4)
    axes.set_yticks(range(len(times)), [f"{arm_label(arm)}\nn = {len(values):,}" for arm, values in times.items()])
    axes.set_ylim(len(times) - 0.4, -0.5)
    label = f"TTFT at the client ({unit.name})"
    scale_axis(axes.xaxis, everything * unit.scale, label, heart=candidates(evidence) * unit.scale)
    gridded(axes, "x")
    return picture
