"""Interactive: measured TTFT over predicted TTFT."""

import numpy as np

from harness.core.errors import ResultsError
from harness.reporting.figures.style import INK, looks, unit_of
from harness.reporting.forecast.prediction import predictions
from harness.reporting.page.canvas import MARKERS, Interactive, belongs, canvas, hover, numbers, table, words
from harness.reporting.page.thin import MOST, Thinning, cloud
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Interactive | None:
    """A point an arm and prompt about the line of equality; None where nothing can be predicted."""
    try:
        found = predictions(evidence)
    except ResultsError:
        return None
    both = found[["predicted_s", "measured_s"]].to_numpy(float)
    unit, look = unit_of(both), looks(evidence.arms)
    plot = canvas(f"predicted TTFT ({unit.name})", f"measured TTFT ({unit.name})", height=420)
    ends = [float(both.min()) * unit.scale / 1.1, float(both.max()) * unit.scale * 1.1]
    plot.line(ends, ends, color=INK)
    points, notes, names, drawn = [], [], [], 0
    for arm in evidence.arms:
        mine = found[found["arm"] == arm.name]
        if mine.empty:
            continue
        ratio = mine["measured_s"] / mine["predicted_s"]
        notes.append(f"{arm.name}: measured / predicted is {ratio.median():.2f} in the median of {len(mine):,} prompts.")
        mine = mine.iloc[cloud(ratio.to_numpy(float), np.zeros(len(mine)), MOST // len(evidence.arms))]
        drawn += len(mine)
        data = {
            "x": numbers(mine["predicted_s"] * unit.scale),
            "y": numbers(mine["measured_s"] * unit.scale),
            "prompt": words(mine["prompt"]),
            "tokens": mine["hit_tokens"].to_numpy(np.int32),
        }
        style = look[arm.name]
        dots = plot.scatter("x", "y", source=table(data), marker=MARKERS[style.marker], color=style.colour, size=8, alpha=0.7)
        belongs(arm.name, arm.order, dots)
        points.append(dots)
        names.append(arm.name)
    told = [("arm", "$name"), ("prompt", "@prompt"), ("tokens hit", "@tokens{0,0}")]
    hover(plot, points, [*told, ("predicted", f"@x{{0,0.[0]}} {unit.name}"), ("measured", f"@y{{0,0.[0]}} {unit.name}")])
    return Interactive(plot, names, [*notes, Thinning(drawn, len(found), "points").note])
