"""Reading a JSON array of objects (or objects one after the other) item by item, so that the file may be large."""

import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from typing import TextIO

from harness.core.errors import UsageError
from harness.workloads._file import opened
from harness.workloads._lines import bad_line

_PIECE = 1 << 20
_LONGEST = 1 << 26
"""Characters of one item at most: without it, one missing bracket would have the rest of the file read at once."""

_SPACE = re.compile(r"[ \t\r\n]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of bytes that are not UTF-8."""


def read_items(path: str) -> Iterator[tuple[int, object]]:
    """(line where it begins, item) of each item; reads about as far as asked.

    Raises UsageError with the line's number where the file is neither an array nor objects one after the other.
    """
    with opened(path, "one JSON array") as file, TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape") as text:
        yield from _Reader(path, text).items()


class _Reader:
    """A window on the file: ``_text`` from ``_at`` on is what was read and not yet used; ``_line`` is the line of ``_at``."""

    def __init__(self, path: str, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def items(self) -> Iterator[tuple[int, object]]:
        first = self._peek()
        if first not in ("[", "{"):
            raise self._bad("not a JSON array of objects", "begin the file with [")
        array = first == "["
        if array:
            self._advance(self._at + 1)
        while (char := self._peek()) not in ("]", ""):
            if char != "{":
                raise self._bad("an item that is no object", "write { ... } for each conversation")
            yield self._line, self._item()
            if array and self._peek() == ",":
                self._advance(self._at + 1)
                if self._peek() == "]":
                    raise self._bad("a comma behind the last item", "remove it")
            elif array and self._peek() not in ("]", ""):
                raise self._bad("the array does not go on with a comma", "write , between items and ] behind the last")
        self._end(array)

    def _end(self, array: bool) -> None:
        if array != (self._peek() == "]"):
            raise self._bad("the file ends inside the array" if array else "a ] that closes nothing", "complete the file")
        if array:
            self._advance(self._at + 1)
        if self._peek():
            raise self._bad("more behind the array", "keep one array in a file")

    def _item(self) -> object:
        while True:
            try:
                item, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._at > _LONGEST:
                    self._advance(error.pos)
                    raise self._bad(f"not JSON: {error.msg}", "correct the file") from error
                self._fill()
            except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
                raise self._bad("an item that is nested too deeply or has too long a number", "correct the file") from error
            else:
                self._advance(end)
                return item

    def _peek(self) -> str:
        """The next character that is not space; nothing at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._advance(space.end() if space else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._fill()

    def _advance(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _fill(self) -> None:
        """Read on, as much again as is waiting, so that a long item is not parsed over and over."""
        more = self._file.read(max(_PIECE, len(self._text) - self._at))
        wrong = _NOT_UTF8.search(more)
        if wrong:
            self._line += self._text.count("\n", self._at) + more.count("\n", 0, wrong.start())
            raise self._bad("not text in UTF-8", "write the file in UTF-8")
        self._text = self._text[self._at :] + more
        self._at = 0
        self._ended = not more

    def _bad(self, problem: str, fix: str) -> UsageError:
        return bad_line(self._path, self._line, problem, fix)
