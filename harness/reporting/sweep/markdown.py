"""``sweep.md`` and the terminal's table: the verdict, the points, where the lead changes, warnings, how to repeat it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.findings import Finding, Severity
from harness.core.table import Cell, Table
from harness.core.text import markdown, without_secrets
from harness.experiment.sweep.grid import Point
from harness.experiment.sweep.planning import listed
from harness.experiment.sweep.state import State
from harness.reporting.sweep import regret
from harness.reporting.sweep.crossings import Found, sentences
from harness.reporting.wording import bounds, ratio, seconds
from harness.results.evidence import BOUNDS

CAPTIONS = {"lines": "Over the axis", "map": "Over two axes"}
SINGLY = (
    "Each point is a measurement of its own: its ratios pair the rounds of that measurement, so that the machine's drift "
    "cancels; the times of "
    "two points were measured at different times. Intervals are at 95% one at a time: of 20 points one may miss."
)


def report(state: State, table: pd.DataFrame, headline: str, metric: str, found: Sequence[Found],
           chosen: Sequence[regret.Regret], pictures: Sequence[Path],
           warnings: Mapping[Finding, Sequence[int]]) -> str:  # fmt: skip
    """The whole text."""
    sections = [f"# Sweep over {markdown(' and '.join(axis.key for axis in state.grid.axes))}", f"**{markdown(headline)}**"]
    shown = [file for file in pictures if file.suffix == ".png"]
    sections += [f"![{CAPTIONS.get(file.stem.partition('-')[0], file.stem)}](pictures/{file.name})" for file in shown]
    sections += ["## The points", grid_table(state, table, metric).to_markdown(), *_notes(table)]
    beside = beside_table(state, table)
    if beside is not None:
        base = str(table.loc[table["metric"].isin(["gap_p95", "probe_p95"]), "base"].iloc[0])
        sections += ["## The neighbours", beside.to_markdown(), f"Behind each time: its ratio to that beside {markdown(base)}."]
    if chosen:
        told = f"{markdown(regret.sentence(chosen))}. {regret.HOW}"
        sections += ["## What choosing costs", regret.regret_table(chosen).to_markdown(), told]
    if found:
        sections += ["## Where the lead changes", "\n".join(f"- {markdown(one)}." for one in sentences(found)), HOW]
    if warnings:
        measured = state.count("complete", "void")
        bold = {one: "**" if one.severity is Severity.VOID else "" for one in warnings}
        lines = [f"- {bold[one]}{_where(numbers, measured)}{markdown(one)}{bold[one]}" for one, numbers in warnings.items()]
        sections += ["## Warnings", "\n".join(lines)]
    sections += ["## To repeat it", f"```\n{without_secrets(state.command)}\n```", _runs(state)]
    return "\n\n".join(sections) + "\n"


HOW = (
    "Between the nearest values at which the ratio's interval excludes 1; near which place is read off a straight line "
    "(docs/sweep.md). If it matters, measure values in between."
)


def grid_table(state: State, table: pd.DataFrame, metric: str) -> Table:
    """One row per point; of each arm its ``metric`` of TTFT, and its ratio to the first arm with the interval."""
    rows = table[(table["metric"] == metric) | table["metric"].isna()]
    arms, lines = _arms(rows), []
    for place in state.grid.points:
        mine = rows[rows["point"] == place.number]
        cells = _cells(mine)
        others = [cells.get(arm, Cell("-")) for arm in arms] if cells else [Cell(_why(mine)), *[Cell("")] * (len(arms) - 1)]
        lines.append([*_values(place), *others])
    keys = [axis.key for axis in state.grid.point_axes]
    return Table("The points", [*keys, *_named(arms)], lines, left=len(keys), bare=len(keys))


def beside_table(state: State, table: pd.DataFrame) -> Table | None:
    """A row per point; of each arm the p95 of the gaps between its neighbours' tokens, beside the base's. None without any."""
    rows = table[table["metric"].isin(["gap_p95", "probe_p95"])]
    if rows.empty:
        return None
    arms, lines = _arms(rows), []
    names = {"gap_p95": "p95 gap between tokens", "probe_p95": "p95 TTFT of short prompts"}
    for place in state.grid.points:
        mine = rows[rows["point"] == place.number]
        for metric in names:
            cells = _cells(mine[mine["metric"] == metric])
            if cells:
                lines.append([*_values(place), Cell(names[metric]), *(cells.get(arm, Cell("-")) for arm in arms)])
    keys = [*(axis.key for axis in state.grid.point_axes), "heard"]
    return Table("The neighbours", [*keys, *_named(arms)], lines, left=len(keys), bare=len(keys))


def terminal_table(state: State, table: pd.DataFrame, metric: str) -> Table:
    """A row per point and arm: TTFT and ratio; of a point that was not measured, why."""
    keys = [axis.key for axis in state.grid.point_axes]
    gaps = bool((table["metric"] == "gap_p95").any())
    lines = []
    for place in state.grid.points:
        mine = table[table["point"] == place.number]
        values, rows = _values(place), mine[mine["metric"] == metric]
        if rows.empty:
            lines.append([*values, Cell("-"), Cell(_why(mine)), *([Cell("")] if gaps else [])])
        heard = _cells(mine[mine["metric"] == "gap_p95"])
        for number, (arm, cell) in enumerate(_cells(rows).items()):
            beside = [heard.get(arm, Cell("-"))] if gaps else []
            name = _named({arm: bool(rows.loc[rows["arm"] == arm, "engine"].isin(list(BOUNDS)).any())})[0]
            lines.append([*(values if number == 0 else [Cell("")] * len(keys)), Cell(name), cell, *beside])
    head = [
        *keys,
        "arm",
        f"{metric}, and its ratio to the first arm's (95%)",
        *(["neighbours' p95 gap"] if gaps else []),
    ]
    return Table("The points", head, lines, left=len(keys) + 1, bare=len(keys) + 1)


def _values(place: Point) -> list[Cell]:
    return [Cell(value) for value in place.values.values()]


def _cells(rows: pd.DataFrame) -> dict[str, Cell]:
    return {str(row["arm"]): cell_of(row) for _, row in rows.iterrows() if not pd.isna(row["arm"])}


def _why(rows: pd.DataFrame) -> str:
    """Why a point has no numbers."""
    first = rows.iloc[0]
    return f"{first['status']}" + ("" if pd.isna(first["reason"]) else f": {first['reason']}")


def _arms(rows: pd.DataFrame) -> dict[str, bool]:
    there = rows[rows["arm"].notna()].drop_duplicates("arm")
    return {str(row["arm"]): row["engine"] in BOUNDS for _, row in there.iterrows()}


def _named(arms: Mapping[str, bool]) -> list[str]:
    return [f"{arm} †" if bound else arm for arm, bound in arms.items()]


def cell_of(row: "pd.Series[Any]") -> Cell:
    """``206 ms, ~0.98`` with ``0.95 to 1.01``."""
    text = "-" if pd.isna(row["seconds"]) else seconds(float(row["seconds"]))
    if pd.isna(row["ratio"]) or row["arm"] == row["base"]:
        return Cell(text)
    low = 0.0 if pd.isna(row["ratio_low"]) else float(row["ratio_low"])
    high = float("inf") if pd.isna(row["ratio_high"]) else float(row["ratio_high"])
    mark = "~" if low <= 1 <= high else ""
    return Cell(f"{text}, {mark}{ratio(float(row['ratio']))}", bounds(low, high))


def _notes(table: pd.DataFrame) -> list[str]:
    notes = ["~ the 95% interval includes 1: this difference may be chance."]
    notes += [f"† {engine} is a bound, {text}." for engine, text in BOUNDS.items() if (table["engine"] == engine).any()]
    return ["  \n".join(notes), SINGLY]


def _where(numbers: Sequence[int], total: int) -> str:
    if len(numbers) == total:
        return ""
    return f"point{'s' if len(numbers) > 1 else ''} {listed(numbers)}: "


def _runs(state: State) -> str:
    lines = [
        f"- point {point.number} ({markdown(point.text)}): `ttft report {state.folder / 'points' / point.folder}`"
        for point in state.grid.points
        if state.of(point.number).finished
    ]
    return "\n".join(lines) if lines else "No point was measured."
