"""``neighbours.csv`` of a run's folder: what the requests beside the measured ones went through.

One row a gap between two tokens of a decoding request (``kind`` decode), or a short probe (``kind`` probe, its TTFT).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from harness.side_table import SideTable

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
_TABLE = SideTable(NAME, NEIGHBOUR_COLUMNS)


def append_neighbours(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Add the rows of one run. Raises ResultsError where they cannot be written."""
    _TABLE.append(folder, rows)


def load_neighbours(folder: Path) -> pd.DataFrame:
    """The rows, with the columns and dtypes above; none where the run had no neighbours. Raises ResultsError."""
    return _TABLE.load(folder)
