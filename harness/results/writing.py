"""Writing a run's folder, row by row while it is measured."""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import ResultsError
from harness.results.reading import complete_lines, complete_rows
from harness.results.schema import REQUEST_COLUMNS, SCHEMA


class RunWriter:
    """Appends to one run's folder; what was handed over is on disk when the call returns.

    Every call raises ResultsError if it cannot write, for instance because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the folder; a line that a crash cut off is removed. Raises ResultsError if it cannot be written."""
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
