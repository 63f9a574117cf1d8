"""A table beside a run's ``requests.csv``: a CSV file that is only ever appended to, and read as a typed frame."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.errors import ResultsError


@dataclass(frozen=True, slots=True)
class SideTable:
    """``name`` of the file in the run's folder; ``columns`` with their pandas dtypes."""

    name: str
    columns: Mapping[str, str]

    def append(self, folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows. Raises ResultsError where they cannot be written."""
        path = folder / self.name
        try:
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(self.columns))
                if new:
                    writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise ResultsError(f"{path} cannot be written: {error.strerror}; free some space, or give another --out") from error

    def load(self, folder: Path) -> pd.DataFrame:
        """All rows, with the columns and dtypes above; none where the run has no such file. Raises ResultsError."""
        path = folder / self.name
        if not path.exists():
            return pd.DataFrame(columns=list(self.columns)).astype(dict(self.columns))
        try:
            frame = pd.read_csv(path, dtype=dict(self.columns), on_bad_lines="error")
            return frame[list(self.columns)]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ResultsError(f"{path} cannot be read: {error}") from error
