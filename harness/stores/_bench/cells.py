"""The cells of a measurement: each is one way of calling the store, on objects of one size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from harness.stores._bench.settings import BenchSettings, size_text

Action = Literal["read", "aread", "exists", "write", "limit"]

MOST_WRITTEN = 64 << 20
"""Writes are measured up to so many bytes a cell: more would fill the disk's queue, and slow the cells after it down."""


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
        return f"{self.action} of {size_text(self.size)}, {who}, {self.batch} a call"


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
