"""Writing a run's folder, row by row while it is measured."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.csv_cells import CsvWriter
from harness.core.errors import ResultsError
from harness.core.replacing import replace_text
from harness.results.csv_rows import complete_lines, whole_rows
from harness.results.schema import REQUEST_COLUMNS, SCHEMA
from harness.results.side_tables import METRICS, NEIGHBOURS

_TEXTS = {name for name, kind in REQUEST_COLUMNS.items() if kind == "string"}
_HEADER = ",".join(REQUEST_COLUMNS).encode()


class RunWriter:
    """Appends to one run's folder; what was handed over is in the file when the call returns.

    Every call raises ResultsError if it cannot write, for instance because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the folder; the last row or line is removed if a crash cut it off, and kept in a file beside it.

        Raises ResultsError if the folder cannot be written, or a table is damaged beyond its last row: then nothing changes.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            _shorten(path)
            with contextlib.ExitStack() as opened:
                rows = (path / "requests.csv").open("a", newline="", encoding="utf-8", errors="backslashreplace")
                self._rows = opened.enter_context(rows)
                self._spans = opened.enter_context((path / "spans.jsonl").open("a", encoding="utf-8"))
                self._csv = CsvWriter(self._rows, list(REQUEST_COLUMNS), _TEXTS)
                if not self._rows.tell():
                    self._csv.header()
                    self._rows.flush()
                opened.pop_all()
        except OSError as error:
            reason = f"the results folder {path} cannot be written: {error.strerror}; give another with --out"
            raise ResultsError(reason) from error

    def append(self, row: Mapping[str, object]) -> None:
        """Add one request; keys are REQUEST_COLUMNS, None and missing ones stay empty."""
        with self._writing():
            self._csv.rows([row])
            self._rows.flush()

    def append_spans(self, spans: Iterable[Mapping[str, object]]) -> None:
        """Add spans; keys are SPAN_COLUMNS."""
        with self._writing():
            self._spans.writelines(json.dumps(span) + "\n" for span in spans)
            self._spans.flush()

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace run.json atomically; the schema version is added. Rows reach the disk first: run.json says how many."""
        text = json.dumps({"schema": f"{SCHEMA[0]}.{SCHEMA[1]}", **meta}, indent=2, default=str)
        with self._writing():
            if not self._rows.closed:
                os.fsync(self._rows.fileno())
            replace_text(self.path / "run.json", text + "\n")

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


def _shorten(folder: Path) -> None:
    """Remove what a crash cut off from every table; all are looked at before the first is changed."""
    tables: dict[str, Callable[[Path, bytes], int]] = {
        "requests.csv": _whole_requests,
        "spans.jsonl": lambda _, data: complete_lines(data),
        METRICS.name: whole_rows,
        NEIGHBOURS.name: whole_rows,
    }
    cuts = []
    for file, whole in ((folder / name, whole) for name, whole in tables.items()):
        if file.exists():
            data = file.read_bytes()
            length = whole(file, data)
            cuts += [(file, length, data[length:])] if length < len(data) else []
    for file, length, rest in cuts:
        file.with_name(f"{file.name}.{length}.cut").write_bytes(rest)
        os.truncate(file, length)


def _whole_requests(file: Path, data: bytes) -> int:
    header = data.partition(b"\n")[0].rstrip(b"\r")
    length = whole_rows(file, data)
    if not (header == _HEADER if length else _HEADER.startswith(header)):
        raise ResultsError(f"{file} was begun by another version of ttft; go on with that one, or begin anew")
    return length
