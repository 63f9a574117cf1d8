"""A run's folder on disk: written row by row while measuring, read back by reports and gates.

    run.json       what was run, where, with what; schema version; void runs and why
    requests.csv   one row a request (REQUEST_COLUMNS), appended as soon as it exists
    spans.jsonl    one object a span (SPAN_COLUMNS), appended at the end of each run

Seconds and bytes are plain numbers; a cell is empty where a thing does not apply.
"""

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import ResultsError, SchemaMismatch

SCHEMA = (1, 1)
"""Major, minor. A new column is a minor version; a changed meaning is a major one, refused by older readers."""

REQUEST_COLUMNS: Mapping[str, str] = {
    "run": "Int64",  # number of the run, from 0, in time order
    "pair": "Int64",  # number of the round that the run belongs to; one run of each arm makes a round
    "position": "Int64",  # place of the request in its run, from 0
    "arm": "string",  # the arm as the user wrote it
    "cache_state": "string",  # primed or natural
    "page_cache": "string",  # warm, dropped or unknown
    "prompt": "string",  # id in the data set
    "prompt_tokens": "Int64",
    "expected_hit_tokens": "Int64",  # what the workload implies for this arm
    "hit_tokens": "Int64",  # what vLLM reports as cached
    "planned_s": "float64",  # on the run's clock
    "sent_s": "float64",  # on the run's clock; minus planned_s it is the lag
    "ttft_s": "float64",  # at the client, from sending to the first token
    "server_ttft_s": "float64",  # vLLM's own first-token latency
    "queue_s": "float64",  # vLLM: from queued to first scheduled
    "lookup_s": "float64",  # asking the store what it holds, hashing included
    "load_s": "float64",  # from the first fetch to the last byte in place
    "stall_s": "float64",  # what the forward waited for loads
    "compute_s": "float64",  # from scheduled to first token, minus lookup_s and stall_s
    "tpot_s": "float64",  # time per output token after the first (schema 1.1)
    "itl_max_s": "float64",  # the longest gap between two outputs (schema 1.1)
    "e2e_s": "float64",  # to the last token
    "output_tokens": "Int64",
    "operations": "Int64",  # store calls of the retrieval
    "keys": "Int64",  # keys named in them
    "bytes": "Int64",  # bytes fetched
    "output_digest": "string",  # of the tokens
    "kv_digest": "string",  # of the sampled KV blocks
    "void": "string",  # why the row does not count
    "error": "string",  # what failed
}

SPAN_COLUMNS: Mapping[str, str] = {
    "run": "Int64",
    "request": "string",  # the prompt's id
    "layer": "Int64",  # -1: all layers
    "kind": "string",  # lookup, fetch, copy, wait, forward
    "start_s": "float64",  # time.perf_counter of the machine
    "end_s": "float64",
    "bytes": "Int64",
    "keys": "Int64",  # keys named in the store call
}

_OBJECTS = ("config", "correctness", "data", "machine", "versions", "binding", "geometry")
_LISTS = ("arms", "runs", "void_runs", "warnings")
_ENTRIES = {"runs": {"run"}, "void_runs": {"run", "reason"}}
"""What run.json holds where it holds it at all."""

SPANS_AT_ONCE = 50_000
"""Spans are read so many at a time: as Python objects they take ten times the memory of columns."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run read back. ``requests`` and ``spans`` have exactly the columns and dtypes above."""

    path: Path
    meta: dict[str, Any]
    requests: pd.DataFrame
    spans: pd.DataFrame

    @property
    def void_runs(self) -> dict[int, str]:
        """Runs that do not count and why: one void or failed request voids its whole run, and so does an interruption."""
        rows = self.requests
        reasons = rows["void"].fillna(rows["error"])
        reasons = reasons.where(reasons.notna() | rows["ttft_s"].notna(), "no first token")
        bad = reasons.notna() & rows["run"].notna()
        found = {int(run): str(reason) for run, reason in zip(rows["run"][bad][::-1], reasons[bad][::-1], strict=True)}
        noted = {int(entry["run"]): str(entry["reason"]) for entry in self.meta.get("void_runs", [])}
        unfinished = {int(entry["run"]): "interrupted" for entry in self.meta.get("runs", []) if not entry.get("done")}
        return unfinished | noted | found

    @property
    def counted(self) -> pd.DataFrame:
        """The rows that count: those of runs that are not void."""
        rows = self.requests
        return rows[~rows["run"].isin(list(self.void_runs)) & rows["run"].notna()]


class RunWriter:
    """Appends to one run's folder; what was handed over is on disk when the call returns.

    Every call raises ResultsError where it cannot write, for instance because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the folder; a line that a crash cut off is removed. Raises ResultsError where it cannot be written."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            new = not _cut(path / "requests.csv", complete_rows)
            _cut(path / "spans.jsonl", complete_lines)
            self._rows = (path / "requests.csv").open("a", newline="", encoding="utf-8")
            self._spans = (path / "spans.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            reason = f"the results folder {path} cannot be written: {error.strerror}; give another with --out"
            raise ResultsError(reason) from error
        self._csv = csv.DictWriter(self._rows, list(REQUEST_COLUMNS), restval="", extrasaction="raise")
        if new:
            self._csv.writeheader()
            self._rows.flush()
        elif not _has_header(path / "requests.csv"):
            self.close()
            raise ResultsError(
                f"{path / 'requests.csv'} was begun by another version of ttft; go on with that one, or begin anew"
            )

    def append(self, row: Mapping[str, object]) -> None:
        """Add one request; keys are REQUEST_COLUMNS, None and missing ones stay empty."""
        with self._writing():
            self._csv.writerow({key: "" if value is None else value for key, value in row.items()})
            self._rows.flush()

    def append_spans(self, spans: Iterable[Mapping[str, object]]) -> None:
        """Add spans; keys are SPAN_COLUMNS."""
        with self._writing():
            self._spans.writelines(json.dumps(span) + "\n" for span in spans)
            self._spans.flush()

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace run.json atomically; the schema version is added."""
        text = json.dumps({"schema": f"{SCHEMA[0]}.{SCHEMA[1]}", **meta}, indent=2, default=str)
        temporary = self.path / ".run.json.tmp"
        with self._writing():
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self.path / "run.json")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A full disk is one sentence."""
        try:
            yield
        except OSError as error:
            reason = f"the results in {self.path} cannot be written: {error.strerror}; make room, then go on with --resume"
            raise ResultsError(reason) from error

    def close(self) -> None:
        """Close the files. Safe to call twice."""
        with self._writing():
            try:
                self._rows.close()
            finally:
                self._spans.close()


def complete_lines(data: bytes) -> int:
    """Length of ``data`` up to and with its last line end."""
    return data.rfind(b"\n") + 1


def complete_rows(data: bytes) -> int:
    """Length of CSV ``data`` without a row that was cut off. Between two rows the number of quotes is even."""
    end = complete_lines(data)
    while data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _cut(file: Path, complete: Callable[[bytes], int]) -> int:
    """Shorten a file to what is complete of it; its length then, 0 where there is none."""
    if not file.exists():
        return 0
    length = complete(file.read_bytes())
    os.truncate(file, length)
    return length


def _has_header(file: Path) -> bool:
    with file.open(encoding="utf-8") as text:
        return text.readline().strip() == ",".join(REQUEST_COLUMNS)


def load(path: Path | str) -> Run:
    """Read a run's folder. A last line cut off by a crash is left out.

    Raises ResultsError where it is not a run's folder, SchemaMismatch where a newer major version wrote it.
    """
    path = Path(path)
    meta = _read_meta(path)
    return Run(path, meta, _read_requests(path / "requests.csv"), _read_spans(path / "spans.jsonl"))


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
    if version.partition(".")[0] != str(SCHEMA[0]):
        raise SchemaMismatch(
            f"{path} was written with results schema {version}, this is {SCHEMA[0]}.{SCHEMA[1]}; "
            "read it with the version of ttft that wrote it"
        )
    _refuse_malformed(path / "run.json", meta)
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
        header = next(csv.reader(io.StringIO(data.partition(b"\n")[0].decode())), [])
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
