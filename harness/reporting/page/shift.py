"""Interactive: the shift function."""

import numpy as np

from harness.reporting.figures.shift import limits, position, shifts
from harness.reporting.figures.style import logarithmic, looks
from harness.reporting.page.canvas import MARKERS, Interactive, belongs, canvas, dash, frame, hover, mark, numbers, table
from harness.results.evidence import Evidence
from harness.stats import Shift

APART = 0.012
"""Arms stand this far beside each other at a decile, so that their bars don't cover one another."""


def draw(evidence: Evidence) -> Interactive | None:
    """A line an arm over the deciles, with simultaneous intervals; None where it can't be told."""
    found = shifts(evidence)
    if not found:
        return None
    low, high = limits(list(found.values()))
    plot = canvas("quantile of TTFT", "TTFT / first arm's", y_log=logarithmic(np.array([low, high])))
    frame(plot, y=(low / 1.05, high * 1.05))
    plot.xaxis.ticker = [0.1, 0.3, 0.5, 0.7, 0.9]
    plot.xaxis.major_label_overrides = {at: f"{100 * at:.0f}%" for at in (0.1, 0.3, 0.5, 0.7, 0.9)}
    mark(plot, 1.0)
    look, points = looks(evidence.arms), []
    for place, (arm, shift) in enumerate(found.items()):
        style, beside = look[arm.name], APART * (place - (len(found) - 1) / 2)
        at = np.array([position(name) for name in shift.quantiles]) + beside
        data = {
            "x": numbers(at),
            "quantile": list(shift.quantiles),
            "ratio": numbers(shift.ratios),
            "low": numbers(shift.lows),
            "high": numbers(shift.highs),
        }
        bars = plot.segment("x", "low", "x", "high", source=table(data), color=style.colour, line_width=1.5)
        line = plot.line("x", "ratio", source=table(data), color=style.colour, line_dash=dash(style), line_width=1.5)
        dots = plot.scatter("x", "ratio", source=table(data), marker=MARKERS[style.marker], color=style.colour, size=9)
        belongs(arm.name, arm.order, bars, line, dots)
        points.append(dots)
    told = [("arm", "$name"), ("quantile", "@quantile"), ("ratio", "@ratio{0.000}"), ("95%", "@low{0.000} to @high{0.000}")]
    hover(plot, points, told)
    return Interactive(plot, [arm.name for arm in found], _warnings(list(found.values())))


def _warnings(found: list[Shift]) -> list[str]:
    """What the shift functions warn of, with one sentence in place of one a decile that has few requests."""
    texts = dict.fromkeys(text for shift in found for text in map(str, shift.warnings))
    thin = {name for shift in found for name in shift.quantiles for text in texts if text.startswith(f"{name} needs")}
    others = [text for text in texts if not any(text.startswith(f"{name} needs") for name in thin)]
    names = sorted(thin, key=position)
    return [*others, f"{', '.join(names)} rest on few requests a run"] if names else others
