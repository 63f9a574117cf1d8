"""Reading a run's folder back: by reports, gates, and whoever goes on with it."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.errors import ResultsError, SchemaMismatch
from harness.results.measurement import Measurement
from harness.results.schema import RENAMED, REQUEST_COLUMNS, SCHEMA, SPAN_COLUMNS


def complete_lines(data: bytes) -> int:
    """Length of ``data`` up to and with its last line end."""
    return data.rfind(b"\n") + 1


def complete_rows(data: bytes) -> int:
    """Length of CSV ``data`` without a row that was cut off. Between two rows the number of quotes is even."""
    end = complete_lines(data)
    while data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


_OBJECTS = ("config", "correctness", "data", "machine", "versions", "binding", "geometry")
_LISTS = ("arms", "runs", "void_runs", "warnings")
_ENTRIES = {"runs": {"run"}, "void_runs": {"run", "reason"}}
"""What run.json holds where it holds it at all."""

SPANS_AT_ONCE = 50_000
"""Spans are read so many at a time: as Python objects they take ten times the memory of columns."""


def load(path: Path | str, *, spans: bool = True) -> Measurement:
    """Read a run's folder. A last line cut off by a crash is left out. Without ``spans``, which are most of it, there are none.

    Raises ResultsError if it is not a run's folder, SchemaMismatch if a newer major version wrote it.
    """
    path = Path(path)
    meta = _read_meta(path)
    return Measurement(
        path, meta, _read_requests(path / "requests.csv"), _read_spans(path / "spans.jsonl") if spans else _spans(path, [], 1)
    )


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path} has no run.json, so it is not a run's folder; give one below results/") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path / 'run.json'} cannot be read: {error}") from error
    if not isinstance(meta, dict):
        raise ResultsError(f"{path / 'run.json'} cannot be read: it holds no JSON object")
    version = str(meta.get("schema", "0.0"))
    if version.partition(".")[0] not in ("1", str(SCHEMA[0])):
        raise SchemaMismatch(
            f"{path} was written with results schema {version}, this is {SCHEMA[0]}.{SCHEMA[1]}; "
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
    for name, needed in _ENTRIES.items():
        for entry in meta.get(name) or ():
            if not isinstance(entry, dict) or not needed <= entry.keys() or type(entry["run"]) is not int:
                raise ResultsError(
                    f"{file} cannot be read: '{name}' has an entry without {' or '.join(sorted(needed))}: {entry!r}"
                )


def _read_requests(path: Path) -> pd.DataFrame:
    """Rows as typed columns; a row that a crash cut off is left out. A million rows take seconds, not minutes."""
    try:
        data = path.read_bytes() if path.exists() else b""
        data = data[: complete_rows(data)] or (",".join(REQUEST_COLUMNS) + "\n").encode()
        first, _, rest = data.partition(b"\n")
        header = [RENAMED.get(name, name) for name in next(csv.reader(io.StringIO(first.decode())), [])]
        data = ",".join(header).encode() + b"\n" + rest
        missing = [name for name in ("run", "arm", "prompt", "ttft_s") if name not in header]
        if missing:
            raise ResultsError(f"{path} has no column '{missing[0]}', so it is not a requests.csv of ours")
        present = {name: kind for name, kind in REQUEST_COLUMNS.items() if name in header}
        # Only the empty cell is missing (and a number's "nan"): an arm may be called "NA".
        absent = {name: [""] if kind == "string" else ["", "nan"] for name, kind in present.items()}
        frame = pd.read_csv(
            io.BytesIO(data), usecols=list(present), dtype=present, keep_default_na=False, na_values=absent, index_col=False
        )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError) as error:
        raise ResultsError(f"{path} has a cell that is not what its column holds: {error}") from error
    columns = {
        name: frame[name] if name in frame else pd.Series(index=frame.index, dtype=kind) for name, kind in REQUEST_COLUMNS.items()
    }
    return pd.DataFrame(columns)


def _read_spans(path: Path) -> pd.DataFrame:
    """Spans as typed columns; a line that a crash cut off is left out."""
    try:
        data = path.read_bytes() if path.exists() else b""
        lines = data[: complete_lines(data)].splitlines()
        places = range(0, max(len(lines), 1), SPANS_AT_ONCE)
        return pd.concat([_spans(path, lines[at : at + SPANS_AT_ONCE], at + 1) for at in places], ignore_index=True)
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError) as error:
        raise ResultsError(f"{path} has a value that is not what its column holds: {error}") from error


def _spans(path: Path, lines: list[bytes], first: int) -> pd.DataFrame:
    """The spans of some lines, of which the first has the number ``first``."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")  # in one go: a call a line takes twice as long
        whole = len(records) == len(lines) and all(isinstance(record, dict) for record in records)
    except ValueError:
        whole = False
    if not whole:
        records = [_span(path, line, number) for number, line in enumerate(lines, first)]
    columns = {name: [record.get(name) for record in records] for name in SPAN_COLUMNS}
    return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in SPAN_COLUMNS.items()})


def _span(path: Path, line: bytes, number: int) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise ResultsError(f"{path}, line {number} is not JSON: {error}; delete the line") from error
