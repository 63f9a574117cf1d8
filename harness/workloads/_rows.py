"""Reading CSV with a header, strictly: what is wrong is said with the line's number."""

import csv
from collections.abc import Iterator

from harness.core.errors import UsageError
from harness.workloads._lines import LineT, bad_line, raw_lines, validated


def read_rows(path: str, model: type[LineT]) -> Iterator[tuple[int, LineT]]:
    """(line number from 1, row) of each row behind the header, one at a time, so that the file may be large.

    The header must name every field of ``model`` (by its alias); other columns are ignored. Raises UsageError
    where the file cannot be read, the header lacks a column, or a row is not what ``model`` says.
    """
    columns = [info.alias or name for name, info in model.model_fields.items()]
    places: list[int] = []
    width = 0
    for number, row in _split(path):
        if not places:
            places, width = _places(path, number, row, columns), len(row)
            continue
        if len(row) != width:
            raise bad_line(path, number, f"has {len(row)} fields, and the header {width}", "write one value for each column")
        values = dict(zip(columns, (row[place] for place in places), strict=True))
        yield number, validated(path, number, values, model, strict=False)
    if not places:
        raise UsageError(f"{path} is empty; it must begin with a header with the columns {','.join(columns)}")


def _split(path: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each line that is not blank."""
    reader = csv.reader(_texts(path), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise bad_line(path, reader.line_num, f"not comma-separated values: {error}", "correct the line") from error
        if row is None:
            return
        if row:
            yield reader.line_num, row


def _texts(path: str) -> Iterator[str]:
    for number, raw in raw_lines(path, "comma-separated values with a header"):
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise bad_line(path, number, f"not text in UTF-8: {error.reason}", "write the file in UTF-8") from error


def _places(path: str, number: int, header: list[str], columns: list[str]) -> list[int]:
    """Where each of ``columns`` stands."""
    names = [name.strip() for name in header]
    for column in columns:
        if names.count(column) != 1:
            problem = f"the header has no column '{column}'" if column not in names else f"the column '{column}' appears twice"
            raise bad_line(path, number, problem, f"write a header with the columns {','.join(columns)}")
    return [names.index(column) for column in columns]
