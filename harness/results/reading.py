"""Reading a run's folder back: by reports, gates, and whoever goes on with it."""

import csv
import io
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.core.csv_cells import meant
from harness.core.errors import ResultsError, SchemaMismatch
from harness.core.text import shortened, whole
from harness.results.csv_rows import complete_lines, whole_rows
from harness.results.measurement import Measurement
from harness.results.row_checks import refuse_wrong_rows
from harness.results.schema import RENAMED, REQUEST_COLUMNS, SCHEMA, SPAN_COLUMNS

_OBJECTS = ("config", "correctness", "data", "machine", "versions", "binding", "geometry", "stopped", "targets")
_LISTS = ("arms", "runs", "void_runs", "failed_arms", "warnings", "resumed")
_ENTRIES = {"runs": {"run"}, "void_runs": {"run", "reason"}, "failed_arms": {"arm", "reason"}}
"""What run.json holds where it holds it at all."""

LARGEST = 2**53
"""No number of a run or round is beyond: from here on a float is not exact."""

SPANS_AT_ONCE = 50_000
"""Spans are read so many at a time: as Python objects they take ten times the memory of columns."""

QUOTED = 300
"""Characters of a damaged file that a message repeats at most."""


def load(path: Path | str, *, spans: bool = True) -> Measurement:
    """Read a run's folder. A last line cut off by a crash is left out. Without ``spans``, which are most of it, there are none.

    Raises ResultsError if it is not a run's folder, or lacks rows of a run that run.json calls done, or holds rows twice;
    SchemaMismatch if a newer major version wrote it.
    """
    path = Path(path)
    meta = _read_meta(path)
    requests = _read_requests(path / "requests.csv", meta)
    return Measurement(path, meta, requests, _read_spans(path / "spans.jsonl") if spans else _spans(path, [], 1))


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = whole(json.loads((path / "run.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ResultsError(f"{path} has no run.json, so it is not a run's folder; give one below results/") from None
    except RecursionError:
        raise ResultsError(f"{path / 'run.json'} cannot be read: it is nested too deeply; restore the file") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path / 'run.json'} cannot be read: {error}") from error
    if not isinstance(meta, dict):
        raise ResultsError(f"{path / 'run.json'} cannot be read: it holds no JSON object")
    version = str(meta.get("schema", "0.0"))
    if version.partition(".")[0] not in ("1", str(SCHEMA[0])):
        raise SchemaMismatch(
            f"{path} was written with results schema {shortened(version, QUOTED)}, this is {SCHEMA[0]}.{SCHEMA[1]}; "
            "read it with the version of ttft that wrote it"
        )
    _refuse_malformed(path / "run.json", meta)
    for entry in meta.get("runs") or ():
        entry.update({RENAMED[name]: entry.pop(name) for name in RENAMED if name in entry})
    return meta


def _refuse_malformed(file: Path, meta: Mapping[str, Any]) -> None:
    """Whoever reads a run takes these apart without a look, so a file that was edited by hand has to end here."""
    for names, kind, what in ((_OBJECTS, dict, "an object"), (_LISTS, list, "a list")):
        for name in names:
            if not isinstance(meta.get(name), kind | None):
                raise ResultsError(f"{file} cannot be read: its '{name}' is not {what}; restore the file")
    for owner, name, inner in (("data", "notes", list | None), ("stopped", "rounds", int | None)):
        if not isinstance((meta.get(owner) or {}).get(name), inner):
            raise ResultsError(f"{file} cannot be read: '{name}' of its '{owner}' is nothing that ttft writes; restore the file")
    for arm in meta.get("arms") or ():
        if not isinstance(arm, dict) or not isinstance(arm.get("options"), dict | None):
            raise ResultsError(f"{file} cannot be read: 'arms' has an entry that is no arm: {shortened(repr(arm), QUOTED)}")
    for name, needed in _ENTRIES.items():
        for entry in meta.get(name) or ():
            shown = shortened(repr(entry), QUOTED)
            if not isinstance(entry, dict) or not needed <= entry.keys() or type(entry.get("run", 0)) is not int:
                raise ResultsError(f"{file} cannot be read: '{name}' has an entry without {' or '.join(sorted(needed))}: {shown}")
            if type(entry.get("done", True)) is not bool:  # a "false" would be true, and its run's missing rows nobody's
                raise ResultsError(f"{file} cannot be read: a 'done' in its '{name}' is not true or false: {shown}")
            numbers = [entry.get(key) for key in ("run", "round", "pair")]
            if any(isinstance(number, int) and not 0 <= number < LARGEST for number in numbers):
                raise ResultsError(f"{file} cannot be read: '{name}' has a number that no run or round has: {shown}")


def _read_requests(path: Path, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Rows as typed columns; a row that a crash cut off is skipped. A million rows take seconds, not minutes."""
    try:
        data = path.read_bytes() if path.exists() else b""
        header = next(csv.reader(io.StringIO(data[: data.find(b"\n") + 1].decode())), []) or list(REQUEST_COLUMNS)
        whole = data[: whole_rows(path, data)] or b"\n"
        frame = _typed(path, whole, [RENAMED.get(name, name) for name in header])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"{path} cannot be read: {shortened(str(error), QUOTED)}") from error
    except (ValueError, TypeError, OverflowError) as error:
        problem = shortened(str(error), QUOTED)
        raise ResultsError(f"{path} has a cell that is not what its column holds: {problem}; restore the file") from error
    rows = pd.DataFrame(
        {
            name: frame[name] if name in frame else pd.Series(index=frame.index, dtype=kind)
            for name, kind in REQUEST_COLUMNS.items()
        }
    )
    refuse_wrong_rows(path, data, rows, meta)
    return rows


def _typed(path: Path, data: bytes, header: list[str]) -> pd.DataFrame:
    """Those of the columns that this version knows. Raises ValueError for a cell that is not of its column's kind."""
    missing = [name for name in ("run", "arm", "prompt", "ttft_s") if name not in header]
    if missing:
        raise ResultsError(f"{path} has no column '{missing[0]}', so it is not a requests.csv of ours")
    for name in header:  # columns come and go with versions; one letter of a name does not
        for near in (
            () if name in REQUEST_COLUMNS else get_close_matches(name[:QUOTED], set(REQUEST_COLUMNS) - set(header), 1, 0.7)
        ):
            shown = shortened(name, QUOTED)
            raise ResultsError(f"{path}, line 1 is damaged: '{shown}' is no column, '{near}' is; correct it, or restore the file")
    present = {name: kind for name, kind in REQUEST_COLUMNS.items() if name in header}
    # Only the empty cell is missing (and a number's "nan"): an arm may be called "NA".
    absent = {name: [""] if kind == "string" else ["", "nan"] for name, kind in present.items()}
    frame = pd.read_csv(
        io.BytesIO(data), header=None, names=header, skiprows=1, usecols=list(present), dtype=present,
        keep_default_na=False, na_values=absent, index_col=False,
    )  # fmt: skip
    for name, kind in present.items():
        if kind == "float64" and np.isinf(frame[name]).any():
            raise ValueError(f"column '{name}' holds an infinite number")
        if kind == "string" and frame[name].str.startswith("'").any():
            frame[name] = frame[name].map(meant, na_action="ignore").astype("string")
    return frame


def _read_spans(path: Path) -> pd.DataFrame:
    """Spans as typed columns; a line that a crash cut off is left out."""
    try:
        data = path.read_bytes() if path.exists() else b""
        lines = data[: complete_lines(data)].splitlines()
        places = range(0, max(len(lines), 1), SPANS_AT_ONCE)
        return pd.concat([_spans(path, lines[at : at + SPANS_AT_ONCE], at + 1) for at in places], ignore_index=True)
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:
        problem = shortened(str(error), QUOTED)
        raise ResultsError(f"{path} has a value that is not what its column holds: {problem}; restore the file") from error


def _spans(path: Path, lines: list[bytes], first: int) -> pd.DataFrame:
    """The spans of some lines, of which the first has the number ``first``."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")  # in one go: a call a line takes twice as long
        whole = len(records) == len(lines) and all(isinstance(record, dict) for record in records)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        records = [_span(path, line, number) for number, line in enumerate(lines, first)]
    columns = {name: [record.get(name) for record in records] for name in SPAN_COLUMNS}
    return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in SPAN_COLUMNS.items()})


def _span(path: Path, line: bytes, number: int) -> dict[str, Any]:
    try:
        span = json.loads(line)
    except RecursionError:
        raise ResultsError(f"{path}, line {number} is nested too deeply; delete the line") from None
    except ValueError as error:
        raise ResultsError(f"{path}, line {number} is not JSON: {shortened(str(error), QUOTED)}; delete the line") from error
    if not isinstance(span, dict):
        raise ResultsError(f"{path}, line {number} is not JSON: it is no object; delete the line")
    return span
