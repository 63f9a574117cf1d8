"""``neighbours.csv`` of a run's folder: what the requests beside the measured ones went through.

One row a gap between two tokens of a decoding request (``kind`` decode), or a short probe (``kind`` probe, its TTFT).
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from harness.errors import ResultsError

NEIGHBOUR_COLUMNS: Mapping[str, str] = {
    "run": "Int64",  # as in requests.csv
    "pair": "Int64",
    "arm": "string",  # of the measured requests, not of this one
    "kind": "string",  # decode or probe
    "stream": "Int64",  # number of the decoding request, or of the probe
    "at_s": "float64",  # on the run's clock: the end of the gap, or when the probe was sent
    "value_s": "float64",  # the gap, or the probe's TTFT
}
NAME = "neighbours.csv"


def append_neighbours(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Add the rows of one run. Raises ResultsError where they cannot be written."""
    path = folder / NAME
    try:
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(NEIGHBOUR_COLUMNS))
            if new:
                writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise ResultsError(f"{path} cannot be written: {error.strerror}; free some space, or give another --out") from error


def load_neighbours(folder: Path) -> pd.DataFrame:
    """The rows, with the columns and dtypes above; none where the run had no neighbours. Raises ResultsError."""
    path = folder / NAME
    if not path.exists():
        return pd.DataFrame(columns=list(NEIGHBOUR_COLUMNS)).astype(dict(NEIGHBOUR_COLUMNS))
    try:
        frame = pd.read_csv(path, dtype=dict(NEIGHBOUR_COLUMNS), on_bad_lines="error")
        return frame[list(NEIGHBOUR_COLUMNS)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
