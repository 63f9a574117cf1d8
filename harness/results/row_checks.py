"""Whether the rows of requests.csv are those that run.json speaks of: none lost, none twice, none of another run."""

import csv
import io
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.core.errors import ResultsError
from harness.core.text import shortened


def refuse_wrong_rows(file: Path, data: bytes, rows: pd.DataFrame, meta: Mapping[str, Any]) -> None:
    """Hold ``rows``, which were read from ``data``, against run.json. Raises ResultsError, naming the file and the line."""
    if meta.get("runs"):
        _refuse_placeless(file, data, rows)
    _refuse_doubled(file, data, rows)
    _refuse_missing(file, data, rows, meta)
    _refuse_foreign(file, data, rows, meta)


def _refuse_placeless(file: Path, data: bytes, rows: pd.DataFrame) -> None:
    """A row without its run or position escapes the checks below. Files of other tools may lack a column altogether."""
    for name in ("run", "position"):
        empty = rows[name].isna().to_numpy()
        if empty.any() and not empty.all():
            line = _line_of(data, int(empty.argmax()))
            raise ResultsError(f"{file}, line {line} is damaged: its {name} is empty; correct the line, or restore the file")


def _refuse_doubled(file: Path, data: bytes, rows: pd.DataFrame) -> None:
    """A request that counted twice would weigh more than the others."""
    place = ["run", "position"]
    twice = (rows.duplicated(place) & rows[place].notna().all(axis="columns")).to_numpy()
    if twice.any():
        at = int(twice.argmax())
        what = f"request {rows['position'].iat[at]} of run {rows['run'].iat[at]}"
        raise ResultsError(f"{file}, line {_line_of(data, at)} holds {what} a second time; delete one of the two lines")


def _refuse_missing(file: Path, data: bytes, rows: pd.DataFrame, meta: Mapping[str, Any]) -> None:
    """A run that is called done has a row per prompt, failed requests included."""
    counts = {int(run): int(count) for run, count in rows["run"].value_counts().items()}  # type: ignore[call-overload]
    said = (meta.get("data") or {}).get("prompts")
    prompts: int | None = said if type(said) is int else None  # older files and those of other tools do not say it
    for entry in meta.get("runs") or ():
        run = entry["run"]
        count = counts.get(run, 0)
        if entry.get("done") is not True or (count and (prompts is None or count >= prompts)):
            continue
        before = np.flatnonzero((rows["run"] <= run).fillna(False).to_numpy())
        line = _line_of(data, int(before[-1])) if len(before) else 1
        of = "" if prompts is None else f" with {prompts} prompts"
        raise ResultsError(
            f"{file} is damaged near line {line}: it has {count} rows of run {run}, which run.json calls done{of}; restore the "
            'file, or set the run\'s "done" to false in run.json, then --resume measures its round again'
        )


def _refuse_foreign(file: Path, data: bytes, rows: pd.DataFrame, meta: Mapping[str, Any]) -> None:
    """One damaged digit moves a row to another run, and a letter to another arm."""
    for name, kind in (("arm", str), ("round", int)):
        noted = {entry["run"]: entry[name] for entry in meta.get("runs") or () if type(entry.get(name)) is kind}
        wanted = rows["run"].map(noted).astype(rows[name].dtype)
        other = (wanted.notna() & (rows[name].isna() | (wanted != rows[name]).fillna(False))).to_numpy()
        if other.any():
            at = int(other.argmax())
            found = "empty" if rows[name].isna().iat[at] else shortened(str(rows[name].iat[at]), 100)
            right = shortened(str(wanted.iat[at]), 100)
            raise ResultsError(
                f"{file}, line {_line_of(data, at)} is damaged: its {name} is {found}, and that of run {rows['run'].iat[at]} "
                f"is {right} in run.json; correct the line, or restore the file"
            )


def _line_of(data: bytes, row: int) -> int:
    """The line, from 1, on which a row begins; ``row`` counts from 0, behind the header. A text may have several lines."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace", newline=""))
    for _ in islice(reader, row + 1):
        pass
    return reader.line_num + 1
