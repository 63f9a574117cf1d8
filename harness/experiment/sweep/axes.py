"""One thing that is varied: ``KEY=V1,V2,...``. Values that have commas of their own are separated by ``|`` instead."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Axis:
    """``key`` is a setting (``concurrency``), or an option inside one (``workload.prefix``, ``chunkwise.pool``)."""

    key: str
    values: tuple[str, ...]

    @property
    def owner(self) -> str:
        """What stands before the dot; empty if the key is a whole setting."""
        return self.key.rpartition(".")[0]

    @property
    def option(self) -> str:
        """What stands behind the dot, or the whole key."""
        return self.key.rpartition(".")[2]

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The values as numbers, if all of them are finite ones."""
        try:
            found = tuple(float(value) for value in self.values)
        except ValueError:
            return None
        return found if all(math.isfinite(value) for value in found) else None

    @property
    def text(self) -> str:
        """As --vary takes it."""
        separator = "|" if any("," in value for value in self.values) else ","
        return f"{self.key}={separator.join(self.values)}"


def parse_axis(text: str) -> Axis:
    """``KEY=V1,V2,...`` or ``KEY=V1|V2|...``. Raises UsageError for anything else, and for two values that are the same."""
    key, equals, rest = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--vary {text} is not KEY=V1,V2; write for instance --vary concurrency=1,2,4")
    values = tuple(value.strip() for value in rest.split("|" if "|" in rest else ","))
    if not all(values):
        raise UsageError(f"--vary {text} has an empty value; write for instance --vary {key}=1,2,4")
    if len(values) < 2:
        raise UsageError(f"--vary {text} has one value, so nothing varies; give two or more, or use --set {text}")
    seen: dict[object, str] = {}
    for value in values:
        meaning = _meaning(value)
        if meaning in seen:
            twice = f"{value} twice" if seen[meaning] == value else f"{seen[meaning]} and {value}, which are the same"
            raise UsageError(f"--vary {key} lists {twice}; give each value once")
        seen[meaning] = value
    return Axis(key, values)


def _meaning(value: str) -> object:
    try:
        return float(value)
    except ValueError:
        return value


def parse_axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """All of them. Raises UsageError if there is none, or if one key is listed twice."""
    axes = tuple(parse_axis(text) for text in texts)
    if not axes:
        raise UsageError("a sweep needs something to vary; give --vary KEY=V1,V2,..., for instance --vary concurrency=1,2,4")
    keys = [axis.key for axis in axes]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise UsageError(f"--vary {twice} is listed twice; put all of its values into one")
    return axes
