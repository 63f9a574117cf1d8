"""Everything that a sweep writes beside its measurements: sweep.csv, sweep.parquet, crossings.csv, sweep.md, pictures/."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.core.csv_cells import csv_of
from harness.core.errors import ResultsError
from harness.core.findings import Finding
from harness.core.replacing import replace_text
from harness.core.table import Table
from harness.core.text import printable
from harness.experiment.sweep.state import State
from harness.reporting.sweep.crossings import Found, crossings, sentences
from harness.reporting.sweep.markdown import report, terminal_table
from harness.reporting.sweep.pictures import draw_sweep
from harness.reporting.sweep.regret import regrets
from harness.reporting.sweep.regret import sentence as regret_sentence
from harness.reporting.sweep.table import Measured, arms_in, long_table, measured_points
from harness.reporting.sweep.verdict import headline, metric_of

CROSSING_COLUMNS: Mapping[str, str] = {
    "axis": "string",
    "elsewhere": "string",  # the values of the other axes, as KEY=VALUE, separated by spaces
    "metric": "string",
    "base": "string",
    "candidate": "string",
    "kind": "string",  # one, several, seems (not shown on both sides) or none
    "place": "float64",  # by a straight line, in units of the axis; empty if there is not one, or no line is known
    "low": "float64",  # the values around it at which the lead is shown; empty if there is none on that side
    "high": "float64",
    "text": "string",
}


@dataclass(frozen=True, slots=True)
class Outputs:
    """``files`` that were written, and what the terminal shows."""

    files: list[Path]
    table: Table
    lines: list[str]


def write_outputs(state: State) -> Outputs:
    """Write all of it from what is on disk. Raises ResultsError if it cannot be written."""
    points, unreadable = measured_points(state)
    table = long_table(state, points, unreadable)
    metric = metric_of(table)
    found = crossings(state.grid, points, metric)
    pictures = draw_sweep(state.grid, table, arms_in(points), metric, found, state.folder / "pictures")
    verdict = headline(state, table, found)
    chosen = regrets(points, metric)
    text = report(state, table, verdict, metric, found, chosen, pictures, _warnings(points))
    files = _write(state.folder, table, _crossing_table(found), text)
    lines = [printable(verdict), *(printable(f"- {one}") for one in sentences(found))]
    lines += [printable(f"- {regret_sentence(chosen)}")] if chosen else []
    return Outputs([*files, *pictures], terminal_table(state, table, metric), lines)


def _warnings(points: Sequence[Measured]) -> dict[Finding, list[int]]:
    """Each warning once, with the numbers of the points that have it."""
    found: dict[Finding, list[int]] = {}
    for point in points:
        for one in point.summary.findings:
            found.setdefault(one, []).append(point.number)
    return found


def _crossing_table(found: Sequence[Found]) -> pd.DataFrame:
    rows = [
        {
            "axis": one.axis,
            "elsewhere": " ".join(f"{key}={value}" for key, value in one.elsewhere.items()),
            "metric": one.metric,
            "base": one.base,
            "candidate": one.candidate,
            "kind": one.crossing.kind,
            "place": one.crossing.places[0] if one.straight and len(one.crossing.places) == 1 else None,
            "low": one.crossing.between[0][0] if len(one.crossing.between) == 1 else None,
            "high": one.crossing.between[0][1] if len(one.crossing.between) == 1 else None,
            "text": one.sentence,
        }
        for one in found
    ]
    return pd.DataFrame(rows, columns=list(CROSSING_COLUMNS)).astype(dict(CROSSING_COLUMNS))


def _write(folder: Path, table: pd.DataFrame, crossing_rows: pd.DataFrame, text: str) -> list[Path]:
    files = [folder / name for name in ("sweep.csv", "crossings.csv", "sweep.md")]
    try:
        for file, content in zip(files, (csv_of(table), csv_of(crossing_rows), text), strict=True):
            replace_text(file, content)
        if importlib.util.find_spec("pyarrow") is not None:
            temporary = folder / ".sweep.parquet.tmp"
            table.to_parquet(temporary, engine="pyarrow", index=False)
            temporary.replace(folder / "sweep.parquet")
            files.append(folder / "sweep.parquet")
    except OSError as error:
        raise ResultsError(f"the table cannot be written to {folder}: {error.strerror}; make room or give rights") from error
    return files
