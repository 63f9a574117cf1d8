"""Measured TTFT of each prompt over what the recurrence predicts for it."""

import numpy as np

from harness.core.errors import ResultsError
from harness.reporting.figures import thin
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.style import INK, dots, gridded, looks, plain_number, three_digits, unit_of
from harness.reporting.forecast.prediction import predictions
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Picture | None:
    """One point per arm and prompt around the line of equality. None if the measurement lacks what the recurrence needs."""
    try:
        found = predictions(evidence)
    except ResultsError:
        return None
    both = found[["predicted_s", "measured_s"]].to_numpy(float)
    unit, look = unit_of(both), looks(evidence.arms)
    found = found.assign(ratio=found["measured_s"] / found["predicted_s"])
    groups = found["arm"].astype("category").cat.codes.to_numpy()
    shown = found.iloc[thin.cloud(found["ratio"].to_numpy(float), groups, thin.MOST)]
    note = (
        "On the line: as predicted. Above it: the machine takes longer (threads that compete, reads that are not free). "
        "Compute is that of the floor arm."
    )
    picture = figure(evidence, "Measured against predicted TTFT", 7.4, 5.0, note, thin.note(len(shown), len(found), "points"))
    axes = picture.subplots()
    low, high = float(both.min()) * unit.scale / 1.15, float(both.max()) * unit.scale * 1.15
    axes.plot([low, high], [low, high], color=INK, linewidth=1)
    few = len(shown) < 500
    for arm in evidence.arms:
        mine = shown[shown["arm"] == arm.name]
        if mine.empty:
            continue
        x, y = mine["predicted_s"].to_numpy(float) * unit.scale, mine["measured_s"].to_numpy(float) * unit.scale
        points = dots(axes, x, y, look[arm.name], 4.7 if few else 2.4, 0.8 if few else 0.4)
        told = zip(mine["prompt"], x, y, strict=True)
        picture.mark(points, arm, [f"{p}: {three_digits(b)} {unit.name}, predicted {three_digits(a)}" for p, a, b in told])
        ratio = float(np.median(found.loc[found["arm"] == arm.name, "ratio"]))
        picture.entry(points, arm, f"measured / predicted: {ratio:.2f}")
    axes.set_aspect("equal")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain_number)
    axes.locator_params(nbins=6)
    axes.set_xlabel(f"predicted TTFT ({unit.name})")
    axes.set_ylabel(f"measured TTFT ({unit.name})")
    gridded(axes)
    picture.arms_legend()
    return picture
