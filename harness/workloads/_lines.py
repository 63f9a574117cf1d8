"""Reading files of one JSON object per line, strictly: what is wrong is said with the line's number."""

from collections.abc import Iterator
from reprlib import Repr
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.core.errors import UsageError
from harness.workloads._file import opened

LineT = TypeVar("LineT", bound=BaseModel)

_REPR = Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxlong, _REPR.maxother = 3, 42, 42, 42
"""Never as long or as deep as what stands in a file."""


LONGEST_LINE = 1 << 26
"""Bytes of one line at most: without it, a file without line breaks would be read into memory as a whole."""

_LONGEST_PROBLEM = 300
"""Characters of a problem that are shown; it may quote the file."""


def read_lines(path: str, model: type[LineT]) -> Iterator[tuple[int, LineT]]:
    """(line number from 1, line) of each line that is not blank, one at a time, so that the file may be large.

    Raises UsageError where the file cannot be read or a line is not what ``model`` says.
    """
    for number, raw in raw_lines(path, "one JSON object per line"):
        line = raw.strip() if number > 1 else raw.removeprefix(b"\xef\xbb\xbf").strip()
        if line:
            yield number, _parse(path, number, line, model)


def raw_lines(path: str, what: str) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes) of each line. Raises as ``opened``, and UsageError for a line of over 64 MiB."""
    with opened(path, what) as file:
        number = 0
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(raw) > LONGEST_LINE:
                problem = f"the line is longer than {LONGEST_LINE >> 20} MiB"
                raise bad_line(path, number, problem, f"path= must name a file of {what}")
            yield number, raw


def bad_line(path: str, number: int, problem: str, fix: str) -> UsageError:
    """The error for line ``number``: where, what is wrong, what to do."""
    return UsageError(f"{path}:{number}: {shortened(problem, _LONGEST_PROBLEM)}; {fix}")


def validated(path: str, number: int, value: object, model: type[LineT], strict: bool = True) -> LineT:
    """``value``, a parsed object or a row of texts (``strict`` False), as ``model``. Raises UsageError with the line's number."""
    try:
        return model.model_validate(value, strict=True) if strict else model.model_validate_strings(value)
    except ValidationError as error:
        problem, fix = _problem(error, model)
    raise bad_line(path, number, problem, fix)


def _parse(path: str, number: int, raw: bytes, model: type[LineT]) -> LineT:
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problem, fix = _problem(error, model)
    raise bad_line(path, number, problem, fix)


def _problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """What is wrong, and what to do: of several errors the one that lies deepest, since of a field that may have several
    types it is the one about the type that was meant."""
    first = max(error.errors(), key=lambda found: len(found["loc"]))
    field = ".".join(str(part) for part in first["loc"] if part != "str" and "[" not in str(part))  # names of types, not fields
    fields = ", ".join(info.alias or name for name, info in model.model_fields.items())
    if first["type"] == "missing":
        return f"the field '{field}' is missing", f"give {field}"
    if first["type"] == "extra_forbidden":
        return f"unknown field '{shortened(field, 43)}'", f"known: {fields}"
    if field:
        message = first["msg"].removeprefix("Value error, ")
        return f"{field}={_short(first['input'])} is invalid: {message}", "correct the line"
    return f"not one JSON object: {first['msg']}", f"write an object with the fields {fields}"


def _short(value: object) -> str:
    return shortened(_REPR.repr(value), 43)


def shortened(text: str, most: int) -> str:
    """At most ``most`` characters of a text, an ellipsis included."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
