"""Tables beside a run's ``requests.csv``: CSV files that are only ever appended to, and read as typed frames.

``metrics.csv``: what vLLM's server told of itself at ``/metrics``, one row per sample. Long form: a sample has the time
at which it was asked for, its name and labels as Prometheus writes them, and its value. Counters and sums count from
the server's start: what a measurement did is the difference of two times.

``neighbours.csv``: what the requests beside the measured ones went through. One row per gap between two tokens of a
decoding request (``kind`` decode), or a short probe (``kind`` probe, its TTFT).
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.core.csv_cells import CsvWriter, meant
from harness.core.errors import ResultsError
from harness.core.text import shortened
from harness.results.csv_rows import whole_rows
from harness.results.schema import RENAMED


@dataclass(frozen=True, slots=True)
class SideTable:
    """``name`` of the file in the run's folder; ``columns`` with their pandas dtypes."""

    name: str
    columns: Mapping[str, str]

    def append(self, folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows. Raises ResultsError if they cannot be written."""
        path = folder / self.name
        try:
            with path.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
                writer = CsvWriter(file, list(self.columns), {name for name, kind in self.columns.items() if kind == "string"})
                if not file.tell():
                    writer.header()
                writer.rows(rows)
        except OSError as error:
            raise ResultsError(f"{path} cannot be written: {error.strerror}; free some space, or give another --out") from error

    def load(self, folder: Path) -> pd.DataFrame:
        """All rows, with the columns and dtypes above; none if the run has no such file. A last row that a crash cut off
        is skipped. Raises ResultsError."""
        path = folder / self.name
        try:
            data = path.read_bytes() if path.exists() else b""
            data = data[: whole_rows(path, data)]
            if not data:
                return pd.DataFrame(columns=list(self.columns)).astype(dict(self.columns))
            frame = pd.read_csv(io.BytesIO(data), dtype={**self.columns}).rename(columns=RENAMED)[list(self.columns)]
            for name, kind in self.columns.items():
                if kind == "string":
                    frame[name] = frame[name].map(meant, na_action="ignore")
            return frame.astype(dict(self.columns))
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise ResultsError(f"{path} cannot be read: {shortened(str(error), 300)}; restore the file") from error


METRIC_COLUMNS: Mapping[str, str] = {
    "time_s": "float64",  # seconds since 1970, UTC
    "name": "string",  # as vLLM calls it
    "labels": "string",  # key=value, in alphabetical order, with commas between
    "value": "float64",  # tokens, seconds, requests or a fraction, as the name says
}
METRICS = SideTable("metrics.csv", METRIC_COLUMNS)


def append_metrics(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Add samples. Raises ResultsError if they cannot be written."""
    METRICS.append(folder, rows)


def load_metrics(folder: Path) -> pd.DataFrame:
    """The samples, with the columns and dtypes above; none if no server was measured. Raises ResultsError."""
    return METRICS.load(folder)


NEIGHBOUR_COLUMNS: Mapping[str, str] = {
    "run": "Int64",  # as in requests.csv
    "round": "Int64",
    "arm": "string",  # of the measured requests, not of this one
    "kind": "string",  # decode or probe
    "stream": "Int64",  # number of the decoding request, or of the probe
    "at_s": "float64",  # on the run's clock: the end of the gap, or when the probe was sent
    "value_s": "float64",  # the gap, or the probe's TTFT
}
NEIGHBOURS = SideTable("neighbours.csv", NEIGHBOUR_COLUMNS)


def append_neighbours(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Add the rows of one run. Raises ResultsError if they cannot be written."""
    NEIGHBOURS.append(folder, rows)


def load_neighbours(folder: Path) -> pd.DataFrame:
    """The rows, with the columns and dtypes above; none if the run had no neighbours. Raises ResultsError."""
    return NEIGHBOURS.load(folder)
