"""Interactive: each prompt against itself in the first arm."""

import numpy as np

from harness.reporting.figures.pairs import WHISKERS_UP_TO, tables
from harness.reporting.figures.style import logarithmic, looks, unit_of
from harness.reporting.page.canvas import MARKERS, Interactive, belongs, canvas, hover, mark, numbers, table, words
from harness.reporting.page.thin import MOST, Thinning, cloud
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Interactive | None:
    """A point an arm and prompt; None without two arms to pair."""
    found = tables(evidence)
    if not found:
        return None
    bases = np.concatenate([table["base"].to_numpy(float) for table in found.values()])
    ratios = np.concatenate([table[["low", "high"]].to_numpy(float).ravel() for table in found.values()])
    unit, look = unit_of(bases), looks(evidence.arms)
    logs = logarithmic(bases), logarithmic(np.append(ratios, 1.0))
    plot = canvas(f"TTFT of the first arm ({unit.name})", "TTFT / first arm's", *logs)
    mark(plot, 1.0)
    points, drawn, notes = [], 0, []
    for arm, ratios in found.items():
        sooner = int((ratios["ratio"] < 1).sum())
        notes.append(f"{arm.name}: {sooner:,} of {len(ratios):,} prompts sooner than in the first arm.")
        whiskers = len(ratios) <= WHISKERS_UP_TO
        ratios = ratios.iloc[cloud(ratios["ratio"].to_numpy(float), np.zeros(len(ratios)), MOST // len(found))]
        drawn, style = drawn + len(ratios), look[arm.name]
        data = {
            "base": numbers(ratios["base"] * unit.scale),
            "prompt": words(ratios.index),
            **{name: numbers(ratios[name]) for name in ("ratio", "low", "high")},
        }
        columns = table(data)
        dots = plot.scatter(
            "base",
            "ratio",
            source=columns,
            marker=MARKERS[style.marker],
            color=style.colour,
            size=9 if whiskers else 5,
            alpha=0.75,
        )
        belongs(arm.name, arm.order, dots)
        if whiskers:
            belongs(arm.name, arm.order, plot.segment("base", "low", "base", "high", source=columns, color=style.colour))
        points.append(dots)
    told = [
        ("arm", "$name"),
        ("prompt", "@prompt"),
        ("ratio", "@ratio{0.000}"),
        ("over its rounds", "@low{0.000} to @high{0.000}"),
    ]
    hover(plot, points, [*told, ("first arm", f"@base{{0,0.[0]}} {unit.name}")])
    return Interactive(plot, [arm.name for arm in found], [*notes, Thinning(drawn, len(bases), "prompts").note])
