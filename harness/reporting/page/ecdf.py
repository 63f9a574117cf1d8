"""Interactive: share of requests whose first token came within a time."""

import numpy as np

from harness.reporting.figures.style import candidates, logarithmic, looks, unit_of
from harness.reporting.page.canvas import MARKERS, Interactive, belongs, canvas, dash, frame, hover, numbers, table
from harness.reporting.page.thin import MOST, Thinning, curve
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Interactive | None:
    """A step curve an arm; None where no request counts."""
    times = {arm: np.sort(evidence.of(arm)["ttft_s"].to_numpy(float)) for arm in evidence.arms}
    times = {arm: values for arm, values in times.items() if len(values)}
    if not times:
        return None
    everything = np.concatenate(list(times.values()))
    unit, look = unit_of(everything), looks(evidence.arms)
    plot = canvas(f"TTFT at the client ({unit.name})", "share of requests", logarithmic(everything, candidates(evidence)))
    frame(plot, y=(0, 1.02))
    plot.yaxis.ticker = [0, 0.25, 0.5, 0.75, 0.9, 1]
    plot.yaxis.major_label_overrides = {0: "0", 0.25: "25%", 0.5: "50%", 0.75: "75%", 0.9: "90%", 1: "100%"}
    lines, drawn = [], 0
    for arm, values in times.items():
        places, style = curve(len(values), MOST // len(times)), look[arm.name]
        drawn += len(places)
        share = (places + 1) / len(values)
        x = np.concatenate([values[:1], values[places]]) * unit.scale
        data = {"x": numbers(x), "y": numbers(np.concatenate([[0.0], share]))}
        line = plot.step("x", "y", source=table(data), mode="after", color=style.colour, line_dash=dash(style), line_width=2)
        marks = [int(np.argmin(np.abs(share - at))) for at in (0.1, 0.3, 0.5, 0.7, 0.9)]
        some = {"x": numbers(values[places][marks] * unit.scale), "y": numbers(share[marks])}
        dots = plot.scatter("x", "y", source=table(some), marker=MARKERS[style.marker], color=style.colour, size=8)
        belongs(arm.name, arm.order, line, dots)
        lines.append(line)
    told = [("arm", "$name"), ("TTFT", f"@x{{0,0.[00]}} {unit.name}"), ("share of requests", "@y{0.0%}")]
    hover(plot, lines, told, line_policy="nearest", mode="mouse")
    return Interactive(plot, [arm.name for arm in times], [Thinning(drawn, len(everything), "steps of the curves").note])
