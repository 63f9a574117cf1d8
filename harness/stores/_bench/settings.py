"""What is to be measured, how it is written on the command line, and the cells: each is one way of calling the store."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from harness.core.errors import UsageError

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LARGEST = 1 << 30
_MOST = 1024
"""Threads, calls in flight, keys of a batch."""


@dataclass(frozen=True, slots=True)
class Loops:
    """``loops`` event loops, each in a thread, with ``in_flight`` calls at once in each."""

    loops: int
    in_flight: int

    @property
    def total(self) -> int:
        """Calls in flight at once."""
        return self.loops * self.in_flight


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """Sizes in bytes; ``batches`` are keys of one call, beside the calls of one key that are always measured."""

    sizes: tuple[int, ...]
    threads: tuple[int, ...]
    loops: tuple[Loops, ...]
    batches: tuple[int, ...]
    rounds: int
    seed: int = 0

    def __post_init__(self) -> None:
        # One thread is what the others are compared with, and what the fit is made of; likewise one key per call.
        object.__setattr__(self, "threads", tuple(sorted({1, *self.threads})))
        object.__setattr__(self, "sizes", tuple(sorted(set(self.sizes))))
        object.__setattr__(self, "batches", tuple(sorted({*self.batches} - {1})))

    @property
    def keys(self) -> int:
        """Objects of each size: enough for every thread, call in flight and batch."""
        return max((8, *self.threads, *self.batches, *(loops.total for loops in self.loops)))

    def with_given(self, **given: object) -> "BenchSettings":
        """Some of it replaced; None leaves what is."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


USUAL = BenchSettings(
    sizes=(4 << 10, 64 << 10, 512 << 10, 4 << 20),
    threads=(1, 2, 4, 8),
    loops=(Loops(1, 1), Loops(1, 8), Loops(2, 4), Loops(4, 2)),
    batches=(2, 8, 32),
    rounds=9,
)
QUICK = BenchSettings((16 << 10, 256 << 10, 2 << 20), (1, 4), (Loops(1, 4), Loops(2, 2)), (16,), rounds=6)


def parse_sizes(name: str, text: str) -> tuple[int, ...]:
    """``64KiB,4MiB`` in bytes. Raises UsageError."""
    sizes = []
    for item in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})\s*(B|KiB|MiB|GiB|)\s*", item)
        size = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 1 <= size <= _LARGEST:
            raise UsageError(
                f"{name} '{text}': '{item}' is invalid; write sizes up to 1GiB separated by commas, such as 64KiB,4MiB"
            )
        sizes.append(size)
    return tuple(sizes)


def parse_numbers(name: str, text: str) -> tuple[int, ...]:
    """``1,2,4``. Raises UsageError."""
    numbers = []
    for item in text.split(","):
        if not re.fullmatch(r"\s*\d{1,5}\s*", item) or not 1 <= int(item.strip()) <= _MOST:
            raise UsageError(
                f"{name} '{text}': '{item}' is invalid; write numbers from 1 to {_MOST:,} separated by commas, such as 1,2,4"
            )
        numbers.append(int(item.strip()))
    return tuple(numbers)


def parse_loops(name: str, text: str) -> tuple[Loops, ...]:
    """``1x8,2x4``: loops x calls in flight of each. Raises UsageError."""
    found = []
    for item in text.split(","):
        parts = re.fullmatch(r"\s*(\d{1,4})x(\d{1,4})\s*", item)
        loops = Loops(int(parts[1]), int(parts[2])) if parts else None
        if loops is None or not 1 <= loops.total <= _MOST:
            fix = f"write event loops x calls in flight of each, at most {_MOST:,} together, such as 1x8,2x4"
            raise UsageError(f"{name} '{text}': '{item}' is invalid; {fix}")
        found.append(loops)
    return tuple(dict.fromkeys(found))


def size_text(size: int) -> str:
    """65536 as 64 KiB."""
    for unit in ("GiB", "MiB", "KiB"):
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]:,} {unit}"
    return f"{size:,} B"


Action = Literal["read", "aread", "exists", "write", "limit"]

MOST_WRITTEN = 64 << 20
"""Writes are measured up to this many bytes per cell: more would fill the disk's queue, and slow the cells after it down."""


@dataclass(frozen=True, slots=True)
class Cell:
    """``action`` by ``callers`` threads (``aread``: event loops), each with ``in_flight`` calls at once, of ``batch`` keys.

    All cells of an action and size handle the same objects. ``limit``: the same bytes without the store (limits.py).
    """

    action: Action
    size: int
    callers: int = 1
    in_flight: int = 1
    batch: int = 1

    @property
    def text(self) -> str:
        """For messages and plots."""
        threads = "1 thread" if self.callers == 1 else f"{self.callers} threads"
        who = f"{self.callers}x{self.in_flight}" if self.action == "aread" else threads
        return f"{self.action} of {size_text(self.size)}, {who}, {self.batch} per call"


def cells_of(settings: BenchSettings, limit: bool) -> tuple[Cell, ...]:
    """Every cell once. ``limit``: whether there is a physical limit to measure beside them."""
    return tuple(dict.fromkeys(_cells(settings, limit)))


def _cells(settings: BenchSettings, limit: bool) -> Iterator[Cell]:
    for size in settings.sizes:
        for threads in settings.threads:
            yield Cell("read", size, threads)
        for loops in settings.loops:
            yield Cell("aread", size, loops.loops, loops.in_flight)
        for batch in settings.batches:
            yield Cell("read", size, batch=batch)
        if settings.keys * size <= MOST_WRITTEN:
            for batch in (1, *settings.batches) if settings.batches else ():
                yield Cell("write", size, batch=batch)
        if limit:
            for streams in {1, max(settings.threads)}:
                yield Cell("limit", size, streams)
    for batch in (1, *settings.batches) if settings.batches else ():
        yield Cell("exists", settings.sizes[0], batch=batch)
