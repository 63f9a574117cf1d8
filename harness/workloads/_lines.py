"""Reading files of one JSON object a line, strictly: what is wrong is said with the line's number."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UsageError

LineT = TypeVar("LineT", bound=BaseModel)


def read_lines(path: str, model: type[LineT]) -> Iterator[tuple[int, LineT]]:
    """(line number from 1, line) of each line that is not blank, one at a time, so that the file may be large.

    Raises UsageError where the file cannot be read or a line is not what ``model`` says.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.isspace():
                    yield number, _parse(path, number, raw, model)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; path= must name a file of one JSON object a line") from error


def bad_line(path: str, number: int, problem: str, fix: str) -> UsageError:
    """The error for line ``number``: where, what is wrong, what to do."""
    return UsageError(f"{path}:{number}: {problem}; {fix}")


def _parse(path: str, number: int, raw: bytes, model: type[LineT]) -> LineT:
    try:
        return model.model_validate_json(raw.strip(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    fields = ", ".join(model.model_fields)
    if first["type"] == "missing":
        problem, fix = f"the field '{field}' is missing", f"give {field}"
    elif first["type"] == "extra_forbidden":
        problem, fix = f"unknown field '{field}'", f"known: {fields}"
    elif field:
        problem, fix = f"{field}={_short(first['input'])} will not do: {first['msg']}", "correct the line"
    else:
        problem, fix = f"not one JSON object: {first['msg']}", f"write an object with the fields {fields}"
    raise bad_line(path, number, problem, fix)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
