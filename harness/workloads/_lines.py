"""Reading files of one JSON object a line, strictly: what is wrong is said with the line's number."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.core.errors import UsageError

LineT = TypeVar("LineT", bound=BaseModel)


def read_lines(path: str, model: type[LineT]) -> Iterator[tuple[int, LineT]]:
    """(line number from 1, line) of each line that is not blank, one at a time, so that the file may be large.

    Raises UsageError where the file cannot be read or a line is not what ``model`` says.
    """
    for number, raw in raw_lines(path, "one JSON object a line"):
        if not raw.isspace():
            yield number, _parse(path, number, raw, model)


def raw_lines(path: str, what: str) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes) of each line. Raises UsageError where the file cannot be read; ``what``: its kind."""
    try:
        with Path(path).expanduser().open("rb") as file:
            yield from enumerate(file, start=1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise cannot_read(path, what, error) from error


def cannot_read(path: str, what: str, error: OSError | ValueError) -> UsageError:
    """The error for a file that does not open."""
    reason = error.strerror if isinstance(error, OSError) else error
    return UsageError(f"cannot read {path}: {reason}; path= must name a file of {what}")


def bad_line(path: str, number: int, problem: str, fix: str) -> UsageError:
    """The error for line ``number``: where, what is wrong, what to do."""
    return UsageError(f"{path}:{number}: {problem}; {fix}")


def validated(path: str, number: int, value: object, model: type[LineT], strict: bool = True) -> LineT:
    """``value``, a parsed object or a row of texts (``strict`` False), as ``model``. Raises UsageError with the line's number."""
    try:
        return model.model_validate(value, strict=True) if strict else model.model_validate_strings(value)
    except ValidationError as error:
        problem, fix = _problem(error, model)
    raise bad_line(path, number, problem, fix)


def _parse(path: str, number: int, raw: bytes, model: type[LineT]) -> LineT:
    try:
        return model.model_validate_json(raw.strip(), strict=True)
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
        return f"unknown field '{field}'", f"known: {fields}"
    if field:
        message = first["msg"].removeprefix("Value error, ")
        return f"{field}={_short(first['input'])} will not do: {message}", "correct the line"
    return f"not one JSON object: {first['msg']}", f"write an object with the fields {fields}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
