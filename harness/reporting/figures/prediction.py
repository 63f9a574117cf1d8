"""Measured TTFT of each prompt over what the recurrence predicts for it."""

from matplotlib.figure import Figure

from harness.core.errors import ResultsError
from harness.reporting.figures.spread import RASTER_FROM
from harness.reporting.figures.style import INK, arm_label, figure, looks, plain_number, unit_of
from harness.reporting.forecast.prediction import predictions
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Figure | None:
    """A point an arm and prompt about the line of equality. None where the run does not say what the model needs."""
    try:
        found = predictions(evidence)
    except ResultsError:
        return None
    both = found[["predicted_s", "measured_s"]].to_numpy(float)
    unit, look = unit_of(both), looks(evidence.arms)
    note = (
        "On the line: as the model says. Above it: the machine takes longer (threads that compete, reads that are not free). "
        "Compute is that of the floor arm."
    )
    picture = figure(evidence, "Measured against predicted TTFT", 7.4, 5.0, note)
    axes = picture.subplots()
    low, high = float(both.min()) * unit.scale / 1.15, float(both.max()) * unit.scale * 1.15
    axes.plot([low, high], [low, high], color=INK, linewidth=1)
    for arm in evidence.arms:
        mine = found[found["arm"] == arm.name]
        if mine.empty:
            continue
        ratio = float((mine["measured_s"] / mine["predicted_s"]).median())
        axes.scatter(
            mine["predicted_s"] * unit.scale,
            mine["measured_s"] * unit.scale,
            s=22 if len(mine) < 500 else 6,
            marker=look[arm.name].marker,
            color=look[arm.name].colour,
            alpha=0.8 if len(mine) < 500 else 0.4,
            linewidths=0,
            rasterized=len(found) > RASTER_FROM,
            label=f"{arm_label(arm)}\nmeasured / predicted: {ratio:.2f}",
        )
    axes.set_aspect("equal")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain_number)
    axes.locator_params(nbins=6)
    axes.set_xlabel(f"predicted TTFT ({unit.name})")
    axes.set_ylabel(f"measured TTFT ({unit.name})")
    axes.grid(True)
    axes.set_axisbelow(True)
    picture.legend(loc="outside right upper", fontsize=8, labelspacing=0.9)
    return picture
