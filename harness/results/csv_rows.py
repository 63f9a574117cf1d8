"""CSV files of a results folder taken apart: where the whole rows end, and whether all before is as it was written.

A crash, or a full disk, cuts off the last row and nothing else. Everything else that is wrong was done to the file
later, and reading on would lose rows without a word: pandas reads a stray quote as the start of a text of many lines.
"""

import re
from functools import cache
from pathlib import Path

from harness.core.errors import ResultsError

_FIELD = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)'
"""What csv.writer makes of one value: a text with a quote, comma or line end in it stands in quotes, its quotes doubled."""

_NEXT_ROW = re.compile(rb"\n[0-9.]+,[^\n]*,")
"""Our rows begin with a number; inside the text of a row that was cut off, no line does."""


def complete_lines(data: bytes) -> int:
    """Length of ``data`` up to and with its last line end."""
    return data.rfind(b"\n") + 1


def complete_rows(data: bytes) -> int:
    """Length of CSV ``data`` without a row that was cut off. Between two rows the number of quotes is even.

    For a file that is being written; ``whole_rows`` is for one that was left behind.
    """
    end = complete_lines(data)
    odd = data.count(b'"', 0, end) % 2
    while odd:
        begin = data.rfind(b"\n", 0, end - 1) + 1
        odd ^= data.count(b'"', begin, end) % 2
        end = begin
    return end


def whole_rows(path: Path, data: bytes) -> int:
    """Length of the CSV ``data`` of ``path`` without a last row that was cut off; 0 if its header was.

    Raises ResultsError, naming the line, if anything else is not as csv.writer wrote it.
    """
    header = data.find(b"\n") + 1
    if not header:  # the header is written at once, so there is no row either
        return 0
    columns = data.count(b",", 0, header) + 1
    rows, cut_row = _patterns(columns)
    found = rows.match(data, header)
    end = found.end() if found else header
    if end < len(data) and (_NEXT_ROW.search(data, end) or not cut_row.match(data, end)):
        line = data.count(b"\n", 0, end) + 1
        raise ResultsError(
            f"{path}, line {line} is damaged: it is not a row of {columns} cells; correct the line, or restore the file (only a "
            "last row that was cut off is skipped)"
        )
    return end


@cache
def _patterns(columns: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Any number of whole rows, and the beginning of one row up to the end of the file. Linear: nothing is tried twice."""
    row = _FIELD + rb"(?:,%b){%d}+" % (_FIELD, columns - 1)
    begun = rb'(?:%b,){0,%d}+(?:%b|"[^"]*+(?:""[^"]*+)*+)\r?\Z' % (_FIELD, columns - 1, _FIELD)
    return re.compile(rb"(?:%b\r?\n)*+" % row), re.compile(begun)
