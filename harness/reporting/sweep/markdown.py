"""``sweep.md``: the verdict, a table of the points, where the lead changes, warnings, and how to make it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.text import markdown, without_secrets
from harness.experiment.sweep.planning import listed
from harness.experiment.sweep.state import State
from harness.reporting.sweep.crossings import Found, told
from harness.reporting.wording import bounds, ratio, seconds
from harness.results.evidence import BOUNDS

CAPTIONS = {"lines": "Over the axis", "map": "Over two axes"}
SINGLY = (
    "Each point is a run of its own: its ratios pair the rounds of that run, so that the machine's drift cancels; the times of "
    "two points were measured at different times. Intervals are at 95% one at a time: of 20 points one may miss."
)


def report(state: State, table: pd.DataFrame, headline: str, metric: str, found: Sequence[Found], pictures: Sequence[Path],
           warnings: Mapping[str, Sequence[int]]) -> str:  # fmt: skip
    """The whole text."""
    sections = [f"# Sweep over {markdown(' and '.join(axis.key for axis in state.grid.axes))}", f"**{markdown(headline)}**"]
    shown = [file for file in pictures if file.suffix == ".png"]
    sections += [f"![{CAPTIONS.get(file.stem.partition('-')[0], file.stem)}](pictures/{file.name})" for file in shown]
    sections += ["## The points", grid_table(state, table, metric), *_notes(table)]
    beside = beside_table(state, table)
    if beside:
        sections += ["## The neighbours", beside]
    if found:
        sections += ["## Where the lead changes", "\n".join(f"- {markdown(one)}." for one in told(found)), HOW]
    if warnings:
        measured = state.count("complete", "void")
        lines = [f"- {_where(numbers, measured)}{markdown(text)}" for text, numbers in warnings.items()]
        sections += ["## Warnings", "\n".join(lines)]
    sections += ["## To make it again", f"```\n{without_secrets(state.command)}\n```", _runs(state)]
    return "\n\n".join(sections) + "\n"


HOW = (
    "Between the nearest values at which the ratio's interval leaves 1 out; near which place is read off a straight line "
    "(docs/sweep.md). Where it matters, measure values in between."
)


def grid_table(state: State, table: pd.DataFrame, metric: str) -> str:
    """A row a point; of each arm its ``metric`` of TTFT, and its ratio to the first arm with the interval."""
    rows = table[(table["metric"] == metric) | table["metric"].isna()]
    arms = _arms(rows)
    head = [*_keys(state), *_named(arms)]
    lines = []
    for place in state.grid.points:
        mine = rows[rows["point"] == place.number]
        cells = {str(row["arm"]): cell_of(row) for _, row in mine.iterrows() if not pd.isna(row["arm"])}
        if not cells:
            first = mine.iloc[0]
            text = f"{first['status']}" + ("" if pd.isna(first["reason"]) else f": {first['reason']}")
            lines.append([*place.values.values(), text, *[""] * (len(arms) - 1)])
            continue
        lines.append([*place.values.values(), *(cells.get(arm, "-") for arm in arms)])
    return _grid(head, lines, len(state.grid.point_axes))


def beside_table(state: State, table: pd.DataFrame) -> str:
    """A row a point; of each arm the p95 of the gaps between its neighbours' tokens, beside the base's. Empty without any."""
    rows = table[table["metric"].isin(["gap_p95", "probe_p95"])]
    if rows.empty:
        return ""
    arms = _arms(rows)
    base = str(rows["base"].iloc[0])
    names = {"gap_p95": "p95 gap between tokens", "probe_p95": "p95 TTFT of short prompts"}
    lines = []
    for place in state.grid.points:
        mine = rows[rows["point"] == place.number]
        for metric in names:
            cells = {str(row["arm"]): cell_of(row) for _, row in mine[mine["metric"] == metric].iterrows()}
            if cells:
                lines.append([*place.values.values(), names[metric], *(cells.get(arm, "-") for arm in arms)])
    head = [*_keys(state), "heard", *_named(arms)]
    return f"{_grid(head, lines, len(state.grid.point_axes) + 1)}\n\nBehind each time: its ratio to that beside {markdown(base)}."


def _arms(rows: pd.DataFrame) -> dict[str, bool]:
    there = rows[rows["arm"].notna()].drop_duplicates("arm")
    return {str(row["arm"]): row["engine"] in BOUNDS for _, row in there.iterrows()}


def _keys(state: State) -> list[str]:
    return [axis.key for axis in state.grid.point_axes]


def _named(arms: Mapping[str, bool]) -> list[str]:
    return [f"{arm} †" if bound else arm for arm, bound in arms.items()]


def cell_of(row: "pd.Series[Any]") -> str:
    """``206 ms, ~0.98 (0.95 to 1.01)``."""
    text = "-" if pd.isna(row["seconds"]) else seconds(float(row["seconds"]))
    if pd.isna(row["ratio"]) or row["arm"] == row["base"]:
        return text
    low = 0.0 if pd.isna(row["ratio_low"]) else float(row["ratio_low"])
    high = float("inf") if pd.isna(row["ratio_high"]) else float(row["ratio_high"])
    mark = "~" if low <= 1 <= high else ""
    return f"{text}, {mark}{ratio(float(row['ratio']))} ({bounds(low, high)})"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], keys: int) -> str:
    lines = [[markdown(text) for text in head], ["---"] * keys + ["---:"] * (len(head) - keys)]
    lines += [[markdown(text) for text in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _notes(table: pd.DataFrame) -> list[str]:
    notes = ["~ no difference shown: the interval holds 1."]
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
