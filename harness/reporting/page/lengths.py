"""Interactive: TTFT over the length of the stored prefix."""

import numpy as np

from harness.reporting.figures.lengths import curves
from harness.reporting.figures.style import candidates, logarithmic, looks, unit_of
from harness.reporting.page.canvas import MARKERS, Interactive, belongs, canvas, dash, hover, numbers, table, words
from harness.reporting.page.thin import MOST, Thinning, cloud
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Interactive | None:
    """A curve an arm and faint points for prompts; None where all prefixes are of one length."""
    found = curves(evidence)
    if not found:
        return None
    times = np.concatenate([curve.prompts["ttft_s"].to_numpy(float) for curve in found.values()])
    unit, look = unit_of(times), looks(evidence.arms)
    y_log = logarithmic(times, candidates(evidence))
    plot = canvas("tokens of the prompt that the store holds", f"TTFT at the client ({unit.name})", y_log=y_log)
    centres, singles, drawn = [], [], 0
    for arm, curve in found.items():
        style, groups, prompts = look[arm.name], curve.groups, curve.prompts
        prompts = prompts.iloc[cloud(prompts["ttft_s"].to_numpy(float), np.zeros(len(prompts)), MOST // len(found))]
        drawn += len(prompts)
        cells = {name: numbers(groups[f"{name}_s"] * unit.scale) for name in ("ttft", "low", "high")}
        data = {"tokens": numbers(groups["tokens"]), **cells, "n": groups["requests"].to_numpy(np.int32)}
        bars = plot.segment("tokens", "low", "tokens", "high", source=table(data), color=style.colour)
        line = plot.line("tokens", "ttft", source=table(data), color=style.colour, line_dash=dash(style), line_width=2)
        dots = plot.scatter("tokens", "ttft", source=table(data), marker=MARKERS[style.marker], color=style.colour, size=9)
        one = {
            "tokens": numbers(prompts["tokens"]),
            "ttft": numbers(prompts["ttft_s"] * unit.scale),
            "prompt": words(prompts["prompt"]),
        }
        faint = plot.scatter("tokens", "ttft", source=table(one), color=style.colour, size=4, alpha=0.35)
        belongs(arm.name, arm.order, bars, line, dots, faint)
        centres.append(dots)
        singles.append(faint)
    told = [("arm", "$name"), ("stored prefix", "@tokens{0,0} tokens"), ("TTFT", f"@ttft{{0,0.[0]}} {unit.name}")]
    hover(plot, centres, [*told, ("95%", "@low{0,0.[0]} to @high{0,0.[0]}"), ("requests", "@n{0,0}")])
    hover(plot, singles, [*told, ("prompt", "@prompt")])
    return Interactive(plot, [arm.name for arm in found], [Thinning(drawn, len(times), "prompts").note])
