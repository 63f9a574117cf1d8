"""A run's folder on disk: written row by row while measuring, read back by reports and gates.

    run.json       what was run, where, with what; schema version; void runs and why
    requests.csv   one row a request (REQUEST_COLUMNS), appended as soon as it exists
    spans.jsonl    one object a span (SPAN_COLUMNS), appended at the end of each run

Seconds and bytes are plain numbers; a cell is empty where a thing does not apply.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import ResultsError, SchemaMismatch

SCHEMA = (1, 0)
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
    "compute_s": "float64",  # from scheduled to first token, minus stall_s
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
    """Appends to one run's folder; what was handed over is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        """Open or create the folder. Raises ResultsError where it cannot be written."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            new = not (path / "requests.csv").exists()
            self._rows = (path / "requests.csv").open("a", newline="", encoding="utf-8")
            self._spans = (path / "spans.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            reason = f"the results folder {path} cannot be written: {error.strerror}; give another with --out"
            raise ResultsError(reason) from error
        self._csv = csv.DictWriter(self._rows, list(REQUEST_COLUMNS), restval="", extrasaction="raise")
        if new:
            self._csv.writeheader()
            self._rows.flush()

    def append(self, row: Mapping[str, object]) -> None:
        """Add one request; keys are REQUEST_COLUMNS, None and missing ones stay empty."""
        self._csv.writerow({key: "" if value is None else value for key, value in row.items()})
        self._rows.flush()

    def append_spans(self, spans: Iterable[Mapping[str, object]]) -> None:
        """Add spans; keys are SPAN_COLUMNS."""
        self._spans.writelines(json.dumps(span) + "\n" for span in spans)
        self._spans.flush()

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace run.json atomically; the schema version is added."""
        text = json.dumps({"schema": f"{SCHEMA[0]}.{SCHEMA[1]}", **meta}, indent=2, default=str)
        temporary = self.path / ".run.json.tmp"
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(self.path / "run.json")

    def close(self) -> None:
        """Close the files. Safe to call twice."""
        self._rows.close()
        self._spans.close()


def load(path: Path | str) -> Run:
    """Read a run's folder. A last line cut off by a crash is left out.

    Raises ResultsError where it is not a run's folder, SchemaMismatch where a newer major version wrote it.
    """
    path = Path(path)
    meta = _read_meta(path)
    return Run(path, meta, _read_requests(path / "requests.csv"), _read_spans(path / "spans.jsonl"))


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path} has no run.json, so it is not a run's folder; give one below results/") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path / 'run.json'} cannot be read: {error}") from error
    version = str(meta.get("schema", "0.0"))
    if version.partition(".")[0] != str(SCHEMA[0]):
        raise SchemaMismatch(
            f"{path} was written with results schema {version}, this is {SCHEMA[0]}.{SCHEMA[1]}; "
            "read it with the version of ttft that wrote it"
        )
    return meta


def _read_requests(path: Path) -> pd.DataFrame:
    """Rows as typed columns; rows with too few cells (a crash while writing) are left out."""
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in REQUEST_COLUMNS.items()})
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        missing = [name for name in ("run", "arm", "prompt", "ttft_s") if name not in header]
        if missing:
            raise ResultsError(f"{path} has no column '{missing[0]}', so it is not a requests.csv of ours")
        rows = [row for row in lines if len(row) == len(header)]
    frame = pd.DataFrame(rows, columns=header, dtype="object").replace("", pd.NA)
    try:
        return pd.DataFrame(
            {
                name: _typed(frame[name], kind) if name in frame else pd.Series(pd.NA, index=frame.index, dtype=kind)
                for name, kind in REQUEST_COLUMNS.items()
            }
        )
    except (ValueError, TypeError) as error:
        raise ResultsError(f"{path} has a cell that is not what its column holds: {error}") from error


def _typed(column: "pd.Series[Any]", kind: str) -> "pd.Series[Any]":
    if kind == "string":
        return column.astype("string")
    numbers = pd.to_numeric(column)
    return numbers.astype("float64") if kind == "float64" else numbers.astype("Float64").astype("Int64")


def _read_spans(path: Path) -> pd.DataFrame:
    records = []
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    records.append(json.loads(line))
    frame = pd.DataFrame(records, columns=list(SPAN_COLUMNS))
    return frame.astype(dict(SPAN_COLUMNS))
