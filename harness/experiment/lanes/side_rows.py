"""Follows what one side writes into its folder, run by run. The side may be of another version: schema 1, any minor."""

import csv
import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from harness.core.errors import RunError
from harness.results import REQUEST_COLUMNS, SPAN_COLUMNS, complete_lines, complete_rows
from harness.results.side_tables import NEIGHBOUR_COLUMNS


class SideRows:
    """What is new in a side's folder since the last look. Every call raises RunError for what cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._meta = folder / "run.json"
        self._requests = CsvTail(folder / "requests.csv", REQUEST_COLUMNS)
        self._neighbours = CsvTail(folder / "neighbours.csv", NEIGHBOUR_COLUMNS)
        self._spans = Tail(folder / "spans.jsonl")

    def requests(self) -> list[dict[str, str]]:
        """New rows of requests.csv."""
        return self._requests.rows()

    def neighbours(self) -> list[dict[str, str]]:
        """New rows of neighbours.csv."""
        return self._neighbours.rows()

    def spans(self) -> list[dict[str, Any]]:
        """New spans."""
        data = self._spans.read(complete_lines)
        try:
            spans = [json.loads(line) for line in data.splitlines()]
        except ValueError as error:
            raise RunError(f"{self._spans.path} cannot be read: {error}") from error
        return [{name: value for name, value in span.items() if name in SPAN_COLUMNS} for span in spans]

    def void(self, run: int) -> list[dict[str, Any]]:
        """Why the side itself says that this run does not count: some reasons belong to no single row."""
        try:
            entries = json.loads(self._meta.read_text(encoding="utf-8")).get("void_runs", [])
            return [dict(entry) for entry in entries if entry["run"] == run]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self._meta} cannot be read: {error}") from error


class Tail:
    """A file's bytes since the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def read(self, complete: Any) -> bytes:
        """``complete``: the length of what is whole of some bytes; the rest comes with the next call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:  # optional, or another version's habit; missing rows are noticed
            return b""
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}") from error
        length: int = complete(data)
        self._read += length
        return data[:length]


class CsvTail:
    """A CSV file's rows since the last call, as far as they are whole; only the columns that this version knows."""

    def __init__(self, path: Path, columns: Collection[str]) -> None:
        self._tail = Tail(path)
        self._columns = columns
        self._header: list[str] = []

    def rows(self) -> list[dict[str, str]]:
        """By column."""
        data = self._tail.read(complete_rows)
        try:
            lines = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise RunError(f"{self._tail.path} cannot be read: {error}") from error
        if not self._header and lines:
            self._header = lines.pop(0)
        rows = [dict(zip(self._header, line, strict=False)) for line in lines]
        return [{name: value for name, value in row.items() if name in self._columns} for row in rows]
