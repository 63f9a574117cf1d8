"""Lines over one axis: the ratio to the first arm with its interval, the TTFT itself, and the neighbours' gaps."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.core.text import wrapped
from harness.experiment.sweep.axes import Axis
from harness.experiment.sweep.settings import straight_along
from harness.reporting.figures.picture import Picture, titled
from harness.reporting.figures.ratio_axis import scale_ratios
from harness.reporting.figures.style import INK, Look, arm_label, drawable, looks, scale_axis, unit_of
from harness.reporting.sweep.crossing import scaled
from harness.reporting.sweep.crossings import Found
from harness.results.evidence import Arm
from harness.stats.quantiles import Floats

PANEL = 3.0
SPREAD = 0.012
"""Arms lie side by side, so that their intervals do not cover one another; a share of the axis' width."""
STEPS = 16
"""Pieces of a line between two values: what is straight over the axis is curved as a ratio, and over a logarithm."""


def draw_lines(
    table: pd.DataFrame, axis: Axis, arms: Sequence[Arm], metric: str, found: Sequence[Found], note: str
) -> Picture | None:
    """One panel each for the ratio, the TTFT and, if there were neighbours, the p95 gap. None if nothing was measured.

    ``table`` has the rows of one line of points: each arm has at most one row per metric and value of ``axis``.
    """
    rows = table[table["metric"] == metric]
    if rows.empty:
        return None
    gaps = table[table["metric"] == "gap_p95"]
    panels = 2 + (not gaps.empty)
    title = f"What changes with {drawable(axis.key)}"
    picture = titled(title, 8.5, 0.9 + PANEL * panels, note.split("\n"))
    axes = picture.subplots(panels, 1, sharex=True)
    places, look = _places(axis), looks(arms)
    handles: dict[str, Any] = {}
    _ratios(axes[0], rows, axis, places, arms, look, metric, found)
    _seconds(axes[1], rows, axis, places, arms, look, f"{metric} of TTFT", handles)
    if not gaps.empty:
        _seconds(axes[2], gaps, axis, places, arms, look, "p95 gap between\nthe neighbours' tokens", handles)
    _scale(axes[-1], axis, places)
    picture.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, handlelength=3.6, labelspacing=0.9)
    return picture


def _places(axis: Axis) -> dict[str, float]:
    """Where each value stands: as a number, as its logarithm if the axis is logarithmic, or in the order given."""
    if axis.numbers is None:
        return {value: float(place) for place, value in enumerate(axis.values)}
    by_log = scaled(axis.numbers)
    return {value: float(np.log2(number)) if by_log else number for value, number in zip(axis.values, axis.numbers, strict=True)}


def _place(axis: Axis, places: Mapping[str, float], value: Any) -> float:
    if axis.numbers is None:
        return places[str(value)]
    return float(np.log2(value)) if scaled(axis.numbers) else float(value)


def _scale(axes: Axes, axis: Axis, places: Mapping[str, float]) -> None:
    axes.set_xticks(list(places.values()), [drawable(value) for value in places])
    if axis.numbers is None:
        axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(drawable(axis.key))


def _shift(number: int, count: int, places: Mapping[str, float]) -> float:
    width = max(places.values()) - min(places.values()) or 1.0
    return (number - (count - 1) / 2) * SPREAD * width


def _ratios(
    axes: Axes, rows: pd.DataFrame, axis: Axis, places: Mapping[str, float], arms: Sequence[Arm], look: Mapping[str, Look],
    metric: str, found: Sequence[Found],
) -> None:  # fmt: skip
    shown = [arm for arm in arms if not arm.bound]
    values = [1.0]
    base = next((str(one) for one in rows["base"].dropna()), "the first arm")
    axes.axhline(1.0, color=look[base].colour if base in look else INK, linewidth=1.2)
    under = rows[rows["arm"] == base].drop_duplicates(axis.key).set_index(axis.key)["seconds"]
    for number, arm in enumerate(shown):
        mine = _sorted(rows[(rows["arm"] == arm.name) & rows["ratio"].notna()], axis, places)
        if mine.empty or arm.name == base:
            continue
        below = under.reindex(mine[axis.key]).to_numpy(float)
        shift = _shift(number, len(shown), places)
        _series(axes, axis, mine, ("ratio", "ratio_low", "ratio_high"), 1.0, look[arm.name], shift, below)
        values += [value for name in ("ratio", "ratio_low", "ratio_high") for value in mine[name].dropna()]
    for one in found:
        if one.axis == axis.key and one.base == base and one.crossing.kind == "one" and one.candidate in look:
            _crossing(axes, one, axis, places, look[one.candidate])
    scale_ratios(axes.yaxis, values)
    axes.set_ylabel(f"{metric} / {wrapped(drawable(base), 24, 2)}'s\n(below 1: faster)")
    _grid(axes)


def _crossing(axes: Axes, one: Found, axis: Axis, places: Mapping[str, float], style: Look) -> None:
    """The place on the line of 1, and between which values it is."""
    low, high = (_place(axis, places, end) for end in one.crossing.between[0])
    axes.hlines(1.0, low, high, color=style.colour, linewidth=5, alpha=0.35, zorder=1)
    if one.straight:
        place = _place(axis, places, one.crossing.places[0])
        axes.plot([place], [1.0], "|", color=style.colour, markersize=16, markeredgewidth=2.2, zorder=3)


def _seconds(
    axes: Axes, rows: pd.DataFrame, axis: Axis, places: Mapping[str, float], arms: Sequence[Arm], look: Mapping[str, Look],
    label: str, handles: dict[str, Any],
) -> None:  # fmt: skip
    everything = rows["seconds"].dropna().to_numpy(float)
    unit = unit_of(everything)
    for number, arm in enumerate(arms):
        mine = _sorted(rows[(rows["arm"] == arm.name) & rows["seconds"].notna()], axis, places)
        if mine.empty:
            continue
        shift = _shift(number, len(arms), places)
        line = _series(axes, axis, mine, ("seconds", "seconds_low", "seconds_high"), unit.scale, look[arm.name], shift)
        handles.setdefault(arm_label(arm), line)
    bounds = [arm.name for arm in arms if arm.bound]
    heart = rows.loc[~rows["arm"].isin(bounds), "seconds"].dropna().to_numpy(float)  # not squeezed by a bound far above
    scale_axis(axes.yaxis, everything * unit.scale, zero=True, heart=heart * unit.scale)
    axes.set_ylabel(f"{label} ({unit.name})")
    _grid(axes)


def _series(
    axes: Axes, axis: Axis, rows: pd.DataFrame, names: Sequence[str], scale: float, style: Look, shift: float, under: Any = None
) -> Any:  # fmt: skip
    """Marks with their intervals, and the line between them; ``under``: what the values are ratios to, in seconds."""
    middle, low, high = (rows[name].to_numpy(float) * scale for name in names)
    x = rows["place"].to_numpy(float) + shift
    known = np.isfinite(low) & np.isfinite(high)
    axes.vlines(x[known], low[known], high[known], color=style.colour, linewidth=1.4)
    marks: Any = None
    if axis.numbers is not None and straight_along(axis) == "times":
        at = rows[axis.key].to_numpy(float)
        fine, middle = _between(at, middle, under)
        x, marks = np.array([_place(axis, {}, one) for one in fine]) + shift, np.searchsorted(fine, at).tolist()
    drawn = {"color": style.colour, "linestyle": style.line, "marker": style.marker, "markersize": 6, "linewidth": 1.6}
    return axes.plot(x, middle, markevery=marks, **drawn)[0]


def _between(at: Floats, values: Floats, under: Floats | None) -> tuple[Floats, Floats]:
    """The line that a crossing's place is read off: times run straight over the axis, also those that ratios are made of."""
    fine = np.unique(np.concatenate([at, *(np.linspace(one, other, STEPS) for one, other in itertools.pairwise(at))]))
    if under is None:
        return fine, np.interp(fine, at, values)
    return fine, np.interp(fine, at, values * under) / np.interp(fine, at, under)


def _sorted(rows: pd.DataFrame, axis: Axis, places: Mapping[str, float]) -> pd.DataFrame:
    return rows.assign(place=[_place(axis, places, value) for value in rows[axis.key]]).sort_values("place", kind="stable")


def _grid(axes: Axes) -> None:
    axes.grid(True)
    axes.set_axisbelow(True)
