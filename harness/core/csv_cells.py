"""Cells of our CSV files: texts that come from outside (arms, prompts, errors, commits) and must stay texts in a spreadsheet.

Every CSV file is written through here. ``inert`` puts a ``'`` in front of a text that a spreadsheet would compute, as ``=cmd``
or ``@SUM``; ``meant`` takes it away where we read such a file again. Numbers stay numbers.
"""

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_COMPUTED = ("=", "+", "-", "@", "\t", "\r", "'")


def inert(value: object) -> object:
    """A cell for CSV: a text that a spreadsheet would compute gets a ``'`` in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_COMPUTED) else value


def meant(cell: str) -> str:
    """The text that ``inert`` made this cell of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_COMPUTED) else cell


class CsvWriter:
    """Rows by column; None and what is missing are empty cells. Raises ValueError for a key that is no column."""

    def __init__(
        self, file: IO[str], columns: Sequence[str], texts: Collection[str] | None = None, lineterminator: str = "\r\n"
    ) -> None:
        """``texts``: the columns that hold texts, where others may hold numbers that are written down already; None: all."""
        self._csv = csv.DictWriter(file, columns, restval="", lineterminator=lineterminator)
        self._texts = columns if texts is None else texts

    def header(self) -> None:
        """The first line."""
        self._csv.writeheader()

    def rows(self, rows: Iterable[Mapping[str, object]]) -> None:
        """One line each, or several where a text has line ends."""
        self._csv.writerows(map(self._cells, rows))

    def _cells(self, row: Mapping[str, object]) -> dict[str, object]:
        return {name: "" if value is None else inert(value) if name in self._texts else value for name, value in row.items()}


def csv_of(frame: "pd.DataFrame") -> str:
    """A table as CSV, without its index."""
    texts = [name for name, kind in frame.dtypes.items() if str(kind) in ("string", "str", "object")]
    return frame.assign(**{str(name): frame[name].map(inert, na_action="ignore") for name in texts}).to_csv(
        index=False, lineterminator="\r\n"
    )  # with "\n" alone, Python 3.11 puts no quotes around a "\r"
