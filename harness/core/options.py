"""``name:option=value,...`` and option tables: how users name engines and workloads, and what is said when they err.

Each implementation declares its options as a frozen pydantic model; here texts become such models.
"""

import types
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.core.errors import UsageError, known
from harness.core.text import redact, shortened


class Options(BaseModel):
    """Base of every option model: frozen, unknown names refused, every field described."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    renamed: ClassVar[Mapping[str, str]] = {}
    """Options of earlier versions, and what they are called since."""


OptionsT = TypeVar("OptionsT", bound=Options)

T = TypeVar("T")
Listed = Annotated[list[T], Field(fail_fast=True)]
"""A list from outside: its first wrong element ends the look at it. A million errors would take seconds and gigabytes."""


def split_spec(text: str) -> tuple[str, dict[str, str]]:
    """``name:a=1,b=2`` as the name and its options. Raises UsageError."""
    name, _, rest = text.partition(":")
    name = name.strip()
    if not name:
        raise UsageError(f"'{text}' names nothing; write name or name:option=value,option=value")
    options: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise UsageError(f"'{item}' in '{text}' is not option=value")
        if key in options:
            raise UsageError(f"option '{key}' is listed twice in '{text}'")
        options[key] = value
    return name, options


def parse_options(model: type[OptionsT], values: Mapping[str, Any], owner: str) -> OptionsT:
    """``values`` (texts or plain values) as ``model``. Raises UsageError that names option, value and fix."""
    names = list(model.model_fields)
    for name in values:
        if name in model.renamed:
            now = model.renamed[name]
            raise UsageError(f"the option '{name}' of {owner} is now called '{now}'; write {now}={values[name]}")
        if name not in names:
            raise known(f"option of {owner}", name, names)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else "its options"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            raise UsageError(f"{owner} needs the option '{where}'") from None
        given = first["input"]
        shown = redact(given) if isinstance(given, str) and "://" in given else given
        raise UsageError(f"{owner}: {where}={shortened(repr(shown), 200)} is invalid: {message}") from None


def describe_options(model: type[Options]) -> list[tuple[str, str, str]]:
    """(name, default, description) of each option, for ``ttft list``."""
    rows = []
    for name, info in model.model_fields.items():
        default = "required" if info.is_required() else str(info.default)
        rows.append((name, default, info.description or ""))
    return rows


def type_names(annotation: Any) -> str:
    """A short text for an option's type."""
    if isinstance(annotation, types.UnionType):
        return " or ".join(type_names(part) for part in get_args(annotation))
    return getattr(annotation, "__name__", str(annotation))
