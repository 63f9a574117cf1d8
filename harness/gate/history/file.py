"""The file of a history: CSV or Parquet, by its suffix."""

import contextlib
import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from harness.core.csv_cells import CsvWriter, meant
from harness.core.errors import ResultsError, SchemaMismatch, SetupError, UsageError, known
from harness.gate.history.rows import COLUMNS, SCHEMA
from harness.gate.verdict import Outcome
from harness.stats import parse_metric

PATIENCE_S = 30.0
"""How long to wait for another job that is appending."""

TINY = 1e-9
"""Bounds may lie on the other side of the ratio by rounding only."""


def check(path: Path) -> None:
    """Raise where ``path`` could not be appended to: UsageError for another kind of file, SetupError without
    pyarrow for Parquet, ResultsError for a damaged file, SchemaMismatch for another version's.
    """
    if _is_parquet(path):
        _parquet()
    if path.exists():
        read(path)


def append(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Add rows; the file is made where there is none. Jobs that append at once wait for one another.

    A file lock beside it (``.lock``) orders writers that see the same file system. Raises as ``check`` does,
    and ResultsError if it cannot be written or another job holds it for PATIENCE_S seconds.
    """
    parquet = _is_parquet(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=PATIENCE_S):
            before = read(path) if path.exists() else None
            if parquet:
                _replace_parquet(path, before, rows)
            else:
                _append_csv(path, rows)
    except Timeout as error:
        reason = f"another job has been writing the history {path} for {PATIENCE_S:g} s; if none is, delete {path}.lock"
        raise ResultsError(reason) from error
    except OSError as error:
        raise ResultsError(f"the history {path} cannot be written: {error.strerror or error}; give another path") from error


def _append_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """One write, so that a reader sees all of a verdict or nothing; what a crash cut off before goes first."""
    text = io.StringIO()
    writer = CsvWriter(text, list(COLUMNS), {name for name, kind in COLUMNS.items() if kind == "string"}, lineterminator="\n")
    there = _whole(path.read_bytes()) if path.exists() else b""
    if not there:
        writer.header()
    elif _rows_in(there)[0] != list(COLUMNS):
        raise ResultsError(f"the history {path} has other columns than this version writes; begin a new file")
    elif not there.endswith(b"\n"):
        text.write("\n")  # an editor took the last line end away
    writer.rows(rows)
    if path.exists() and path.stat().st_size > len(there):
        os.truncate(path, len(there))
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, len(there))  # a verdict that is not kept whole is not kept
        raise


_LAST_CELL = re.compile(rb",[0-9a-f]{12}\r?")
"""The digest of the machine ends a row."""


def _whole(data: bytes) -> bytes:
    """Without a last row that a crash cut off. A whole one may lack its line end, which editors take away."""
    begin = data.rfind(b"\n") + 1
    last = data[begin:]
    header = data.partition(b"\n")[0]
    if not begin:  # a beginning of our header is nothing; anything else is somebody's file
        return b"" if ",".join(COLUMNS).encode().startswith(last) else data
    whole = last.count(b",") >= header.count(b",") and _LAST_CELL.fullmatch(last[last.rfind(b",") :])
    return data if not last or whole else data[:begin]


def _replace_parquet(path: Path, before: pd.DataFrame | None, rows: Sequence[Mapping[str, object]]) -> None:
    """Parquet cannot grow: the file is written anew and takes the old one's place at once."""
    new = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(dict(COLUMNS))
    temporary = path.with_name(f".{path.name}.tmp")
    _parquet()
    (new if before is None or before.empty else pd.concat([before, new])).to_parquet(temporary, index=False)
    temporary.replace(path)


def read(path: Path) -> pd.DataFrame:
    """The rows with exactly COLUMNS and their dtypes, in the file's order.

    Raises UsageError for another kind of file, ResultsError for one that is missing or damaged (the sentence
    names the row and the cell), SchemaMismatch for rows of another major version.
    """
    parquet = _is_parquet(path)
    try:
        raw = _parquet_rows(path) if parquet else _csv_rows(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ResultsError(f"the history {path} cannot be read: {reason}; `ttft gate ... --history` makes one") from error
    return _validated(path, raw)


def _csv_rows(path: Path) -> pd.DataFrame:
    """All cells as text; rows must be as long as the header."""
    lines = _rows_in(_whole(path.read_bytes()))
    if not lines:
        return pd.DataFrame(columns=list(COLUMNS), dtype="string")
    header, *rows = lines
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ResultsError(
                f"the history {path} is damaged: row {number} has {len(row)} cells, the header {len(header)}; fix or delete it"
            )
    return pd.DataFrame([[meant(cell) for cell in row] for row in rows], columns=header, dtype="string")


def _rows_in(data: bytes) -> list[list[str]]:
    """Header and rows, without blank lines; a byte order mark, as spreadsheets write it, is left out."""
    return [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True) if row]


def _parquet_rows(path: Path) -> pd.DataFrame:
    pyarrow = _parquet()
    try:
        # What pandas noted beside the columns is not needed, and where it is damaged pandas raises what it likes.
        raw: pd.DataFrame = pyarrow.parquet.read_table(path, partitioning=None).to_pandas(ignore_metadata=True)
        return raw
    except (pyarrow.ArrowException, ValueError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ResultsError(f"the history {path} is damaged or no Parquet file: {why}; begin a new one") from error


def _validated(path: Path, raw: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in raw]
    if missing or raw.columns.has_duplicates:
        wrong = f"no column '{missing[0]}'" if missing else "a column twice"
        raise ResultsError(f"the history {path} has {wrong}, so it is none of ours; `ttft gate ... --history` makes one")
    text = raw[list(COLUMNS)].astype("string").fillna("")
    newer = text["schema"].str.split(".").str[0] != SCHEMA.partition(".")[0]
    if newer.any():
        version = text["schema"][newer].iloc[0]
        raise SchemaMismatch(
            f"the history {path} has rows of schema '{version}', this is {SCHEMA}; read it with the version of ttft that wrote it"
        )
    numbers = {name: pd.to_numeric(text[name], errors="coerce") for name, kind in COLUMNS.items() if kind != "string"}
    _refuse_wrong_cells(path, text, numbers)
    return text.assign(**numbers).astype(dict(COLUMNS)).reset_index(drop=True)


def _refuse_wrong_cells(path: Path, text: pd.DataFrame, numbers: Mapping[str, "pd.Series[Any]"]) -> None:
    finite = {name: values.notna() & (values.abs() != math.inf) for name, values in numbers.items()}
    judged = text["outcome"] != str(Outcome.REFUSED)
    empty = text == ""
    low, ratio, high = numbers["low"], numbers["ratio"], numbers["high"]
    wrong = {
        "time": pd.to_datetime(text["time"], errors="coerce", utc=True, format="ISO8601").isna(),
        "outcome": ~text["outcome"].isin([str(outcome) for outcome in Outcome]),
        "arm": empty["arm"],
        "base": empty["base"],
        "metric": ~text["metric"].map(_is_metric).astype(bool),
        "ratio": ~(finite["ratio"] & (ratio > 0)) & (judged | ~empty["ratio"]),
        "low": ~(finite["low"] & (low > 0) & ~(low > ratio * (1 + TINY))) & ~empty["low"],
        "high": ~(finite["high"] & ~(high < ratio * (1 - TINY))) & ~empty["high"],
        "margin": ~(finite["margin"] & (numbers["margin"] > 0)),
        "machine": ~text["machine"].str.fullmatch("[0-9a-f]{12}"),
        "n_pairs": ~(finite["n_pairs"] & (numbers["n_pairs"] >= 0) & (numbers["n_pairs"] % 1 == 0)),
    }
    for name, rows in wrong.items():
        if rows.any():
            number = int(rows.to_numpy().argmax())
            what = f"row {number + 1} has '{text[name].iloc[number]}' as its {name}"
            raise ResultsError(f"the history {path} is damaged: {what}; fix or delete it")


def _is_metric(text: str) -> bool:
    try:
        parse_metric(text)
    except UsageError:
        return False
    return True


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".csv", ".parquet"):
        raise known("kind of history file", path.suffix or path.name, [".csv", ".parquet"])
    return path.suffix == ".parquet"


def _parquet() -> Any:
    """The library that reads and writes Parquet; pandas would say its absence at length."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SetupError("a .parquet history needs pyarrow: pip install 'ttft[parquet]', or give a .csv file") from error
    return pyarrow
