"""``metrics.csv`` of a run's folder: what vLLM's server told of itself at ``/metrics``, one row a sample.

Long form: a sample has the time at which it was asked for, its name and labels as Prometheus writes them, and its value.
Counters and sums count from the server's start: what a measurement did is the difference of two times.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from harness.side_table import SideTable

METRIC_COLUMNS: Mapping[str, str] = {
    "time_s": "float64",  # seconds since 1970, UTC
    "name": "string",  # as vLLM calls it
    "labels": "string",  # key=value, in alphabetical order, with commas between
    "value": "float64",  # tokens, seconds, requests or a fraction, as the name says
}
NAME = "metrics.csv"
_TABLE = SideTable(NAME, METRIC_COLUMNS)


def append_metrics(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Add samples. Raises ResultsError where they cannot be written."""
    _TABLE.append(folder, rows)


def load_metrics(folder: Path) -> pd.DataFrame:
    """The samples, with the columns and dtypes above; none where no server was measured. Raises ResultsError."""
    return _TABLE.load(folder)
