"""Which share of the requests had their first token within a given time, one curve per arm."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.reporting.figures import thin
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.style import Look, candidates, gridded, looks, scale_axis, three_digits, unit_of
from harness.results.evidence import Evidence
from harness.stats.quantiles import Floats

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Markers stand at the same shares on every curve: they tell the curves apart without colour."""


def draw(evidence: Evidence) -> Picture | None:
    """ECDF of TTFT over all counted requests; the legend runs from the fastest median to the slowest.

    None if no request counts.
    """
    times = {arm: np.sort(evidence.of(arm)["ttft_s"].to_numpy(float)) for arm in evidence.arms}
    times = {arm: values for arm, values in times.items() if len(values)}
    if not times:
        return None
    everything = np.concatenate(list(times.values()))
    places = {arm: thin.curve(len(values), thin.MOST // len(times)) for arm, values in times.items()}
    note = thin.note(sum(map(len, places.values())), len(everything), "steps of the curves")
    unit, look = unit_of(everything), looks(evidence.arms)
    picture = figure(evidence, "How fast the first token came: ECDF of TTFT", 8, 4.6, note)
    axes = picture.subplots()
    for arm, values in sorted(times.items(), key=lambda item: float(np.median(item[1]))):
        values = values * unit.scale
        line, marks = curve(axes, values, places[arm], look[arm.name])
        picture.mark(line, arm, [f"{arm.name}, {len(values):,} requests"])
        told = zip(SHARES, np.asarray(marks.get_xdata()), strict=True)
        picture.mark(marks, arm, [f"{arm.name}: {at:.0%} within {three_digits(x)} {unit.name}" for at, x in told])
        picture.entry(line, arm, f"n = {len(values):,}")
    label = f"TTFT at the client ({unit.name})"
    scale_axis(axes.xaxis, everything * unit.scale, label, heart=candidates(evidence) * unit.scale)
    axes.set_ylabel("share of requests")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], ["0", "25%", "50%", "75%", "90%", "100%"])
    axes.set_ylim(0, 1.02)
    gridded(axes)
    picture.arms_legend()
    return picture


def curve(axes: Axes, values: Floats, places: thin.Indices, look: Look) -> tuple[Line2D, Line2D]:
    """The ECDF of sorted ``values``, shape (n,), as a step line through those at ``places``, and its markers."""
    share = (places + 1) / len(values)
    line = axes.step(
        np.concatenate([values[:1], values[places]]),
        np.concatenate([[0.0], share]),
        where="post",
        color=look.colour,
        linestyle=look.line,
        linewidth=1.8,
        marker=look.marker,
        markevery=[],  # only the legend shows it
        markersize=6,
    )[0]
    at = np.array([int(np.ceil(len(values) * share)) for share in SHARES])
    return line, axes.plot(values[at - 1], at / len(values), look.marker, color=look.colour, markersize=6, linestyle="none")[0]
