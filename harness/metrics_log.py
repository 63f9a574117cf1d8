"""``metrics.csv`` of a run's folder: what vLLM's server told of itself at ``/metrics``, one row a sample.

Long form: a sample has the time at which it was asked for, its name and labels as Prometheus writes them, and its value.
Counters and sums count from the server's start: what a measurement did is the difference of two times.
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from harness.errors import ResultsError

METRIC_COLUMNS: Mapping[str, str] = {
    "time_s": "float64",  # seconds since 1970, UTC
    "name": "string",  # as vLLM calls it
    "labels": "string",  # key=value, in alphabetical order, with commas between
    "value": "float64",  # tokens, seconds, requests or a fraction, as the name says
}
NAME = "metrics.csv"


def append_metrics(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Add samples. Raises ResultsError where they cannot be written."""
    path = folder / NAME
    try:
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(METRIC_COLUMNS))
            if new:
                writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise ResultsError(f"{path} cannot be written: {error.strerror}; free some space, or give another --out") from error


def load_metrics(folder: Path) -> pd.DataFrame:
    """The samples, with the columns and dtypes above; none where no server was measured. Raises ResultsError."""
    path = folder / NAME
    if not path.exists():
        return pd.DataFrame(columns=list(METRIC_COLUMNS)).astype(dict(METRIC_COLUMNS))
    try:
        frame = pd.read_csv(path, dtype=dict(METRIC_COLUMNS), on_bad_lines="error")
        return frame[list(METRIC_COLUMNS)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
