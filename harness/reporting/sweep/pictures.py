"""Which pictures a sweep gets: lines over each line of one axis, maps over two."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.core.errors import ResultsError
from harness.core.text import redact
from harness.experiment.sweep.axes import Axis
from harness.experiment.sweep.grid import Grid
from harness.reporting.figures.picture import Picture
from harness.reporting.figures.save import save
from harness.reporting.figures.style import paper
from harness.reporting.sweep.crossings import Found
from harness.reporting.sweep.heat import draw_heat
from harness.reporting.sweep.lines import draw_lines
from harness.results.evidence import Arm

MOST_LINES, MOST_MAPS = 12, 12
"""Pictures of each kind; the rest of a larger grid is in its table only."""


def draw_sweep(
    grid: Grid, table: pd.DataFrame, arms: Sequence[Arm], metric: str, found: Sequence[Found], folder: Path
) -> list[Path]:
    """Write all as PNG and SVG into ``folder``, from which earlier pictures are removed. Raises ResultsError."""
    drawn: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*folder.glob("*.png"), *folder.glob("*.svg")]:
            old.unlink()
        with paper():
            for name, picture in [*_lines(grid, table, arms, metric, found), *_maps(grid, table, arms, metric, found)]:
                drawn += save(picture, folder / name)
    except OSError as error:
        raise ResultsError(f"the pictures cannot be written to {folder}: {error.strerror}; make room or give rights") from error
    return drawn


def _lines(
    grid: Grid, table: pd.DataFrame, arms: Sequence[Arm], metric: str, found: Sequence[Found]
) -> Iterator[tuple[str, Picture | None]]:
    """Of each axis that makes points; with two of them the maps show the same in one picture."""
    if not grid.point_axes:
        yield from _arm_lines(grid, table, arms, metric, found)
    if len(grid.point_axes) > 1:
        return
    for axis in grid.point_axes:
        note = f"{_fixed(grid, [axis])}\nBars: 95% intervals over the rounds of each point, which was measured by itself."
        if any(one.crossing.kind == "one" and one.base == _base(table) for one in found):  # of others none is drawn
            note += " A thick stretch at 1: between which values the lead changes; the tick: near which value."
        yield "lines", draw_lines(table, axis, arms, metric, found, note)


def _arm_lines(
    grid: Grid, table: pd.DataFrame, arms: Sequence[Arm], metric: str, found: Sequence[Found]
) -> Iterator[tuple[str, Picture | None]]:
    """If only one option of an engine varies, its arms are one line; each other arm is the same at every value."""
    for axis in grid.arm_axes:
        if sum(other.owner == axis.owner for other in grid.arm_axes) > 1:
            continue
        mine = table[axis.key].notna() & (table["engine"] == axis.owner)
        values = list(axis.values) if axis.numbers is None else list(axis.numbers)
        others = [table[~mine & table["arm"].notna()].assign(**{axis.key: value}) for value in values]
        rows = pd.concat([table[mine].assign(arm=axis.owner), *others], ignore_index=True)
        shown = [Arm(axis.owner, axis.owner, {}, 0), *(arm for arm in arms if arm.engine != axis.owner)]
        there = [one for one in found if one.axis == axis.key]
        note = f"{_fixed(grid, [axis])}\nBars: 95% intervals over the rounds. One measurement; {axis.owner} is one line."
        yield f"lines-{_name(axis)}", draw_lines(rows, axis, shown, metric, there, note)


def _name(axis: Axis) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", axis.key)


def _maps(
    grid: Grid, table: pd.DataFrame, arms: Sequence[Arm], metric: str, found: Sequence[Found]
) -> Iterator[tuple[str, Picture | None]]:
    yield from itertools.islice(_point_maps(grid, table, arms, metric, found), MOST_MAPS)
    yield from itertools.islice(_arm_maps(grid, table, metric), MOST_MAPS)


def _point_maps(
    grid: Grid, table: pd.DataFrame, arms: Sequence[Arm], metric: str, found: Sequence[Found]
) -> Iterator[tuple[str, Picture | None]]:
    """Over the first two axes that make points, one for each combination of the others."""
    if len(grid.point_axes) < 2:
        return
    x, y, *others = grid.point_axes
    base = _base(table)
    for number, values in enumerate(itertools.product(*(axis.values for axis in others)), 1):
        layer = dict(zip((axis.key for axis in others), values, strict=True))
        rows = _at(table, others, layer)
        missing = rows[rows["metric"].isna()]
        panels = {
            arm.name: pd.concat([rows[(rows["arm"] == arm.name) & (rows["metric"] == metric)], missing])
            for arm in arms
            if not arm.bound and arm.name != base
        }
        there = [_without(one, layer) for one in found if all(one.elsewhere.get(key) == value for key, value in layer.items())]
        diamonds = f"Diamonds: near which value of {x.key} the lead changes, and between which values."
        note = f"{_fixed(grid, [x, y], layer)}\n{MARKS} {diamonds}"
        yield "map" if not others else f"map-{number}", draw_heat(panels, x, y, base, metric, there, note)


MARKS = "Small: 95% interval. Hatched, ~: no difference shown."


def _arm_maps(grid: Grid, table: pd.DataFrame, metric: str) -> Iterator[tuple[str, Picture | None]]:
    """Of an engine's option over the one axis that makes points: how much of the option is enough where."""
    base = _base(table)
    for x, axis in itertools.product(grid.point_axes or grid.arm_axes, grid.arm_axes):
        within = [other for other in grid.arm_axes if other.owner == axis.owner]
        if len(grid.point_axes) > 1 or (x, axis) not in _two(grid, within):
            continue  # which of the other axes' values, nobody said
        rows = table[(table["metric"] == metric) & table[axis.key].notna() & (table["engine"] == axis.owner)]
        rows = rows[~rows.duplicated([x.key, axis.key])]
        note = f"{_fixed(grid, [x, axis])}\n{MARKS}"
        yield f"map-{_name(axis)}", draw_heat({axis.owner: rows}, x, axis, base, metric, (), note)


def _two(grid: Grid, within: Sequence[Axis]) -> list[tuple[Axis, Axis]]:
    """The one pair of axes that a map over an engine's options can have: with the points' axis, or two options."""
    if grid.point_axes:
        return [(grid.point_axes[0], within[0])] if len(within) == 1 else []
    return [(within[0], within[1])] if len(within) == 2 else []


def _base(table: pd.DataFrame) -> str:
    return next((str(one) for one in table.loc[table["metric"].isin(["p50", "mean"]), "base"].dropna()), "")


def _at(table: pd.DataFrame, axes: Sequence[Axis], values: Mapping[str, str]) -> pd.DataFrame:
    for axis in axes:
        table = table[table[axis.key] == (values[axis.key] if axis.numbers is None else float(values[axis.key]))]
    return table


def _without(found: Found, layer: Mapping[str, str]) -> Found:
    """The crossing, by the axes of the map alone."""
    elsewhere = {key: value for key, value in found.elsewhere.items() if key not in layer}
    return dataclasses.replace(found, elsewhere=elsewhere)


def _fixed(grid: Grid, shown: Sequence[Axis], layer: Mapping[str, str] | None = None) -> str:
    """What all points of the picture share."""
    here = "".join(f"{key}={value}, " for key, value in (layer or {}).items())
    varied = " and ".join(axis.key for axis in shown)
    return f"{here}store {redact(grid.base.store)}, workload {grid.base.workload}, with {varied} varied."
