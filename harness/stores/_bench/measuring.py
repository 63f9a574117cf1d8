"""Rounds in which every cell runs once, in a new random order.

A round before them warms up, checks the bytes, and sets the amount of work."""

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import xxhash

from harness.core.errors import RunError, UsageError
from harness.stores._bench.callers import AsyncCall, Call, Callers, Timing
from harness.stores._bench.limits import Limit
from harness.stores._bench.settings import BenchSettings, Cell
from harness.stores._checks import Scoped
from harness.stores.base import Buffer, Read

AIM_S = 0.04
"""What one stream should take in a cell: small objects are read several times, equally often by all cells of their size."""
MOST_TURNS = 32
COLUMNS = (
    "round", "order", "action", "size_bytes", "callers", "in_flight", "batch", "keys", "bytes", "seconds", "call_p50_s",
)  # fmt: skip
"""Of the long table: one row per cell and round. ``keys`` and ``bytes`` were moved in ``seconds`` by all callers together."""

Row = Mapping[str, int | float | str]


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a measurement takes."""

    stored: int
    memory: int


def needed(settings: BenchSettings) -> Need:
    """What will be written, and held in memory. Raises UsageError if this machine's memory is too small for it."""
    need = Need(settings.keys * sum(settings.sizes), settings.keys * max(settings.sizes))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need.memory > free:
        raise UsageError(
            f"{settings.keys} objects of {max(settings.sizes):,} bytes do not fit into the free memory ({free:,} bytes); "
            "give smaller --sizes, or fewer --threads, --loops and --batches"
        )
    return need


class Bench:
    """A store that is measured. Close it; what was written is the caller's to clean up (``store.clean``)."""

    def __init__(self, store: Scoped, settings: BenchSettings, cells: tuple[Cell, ...], limit: Limit | None) -> None:
        self.cells = cells
        self._settings = settings
        self._store = store
        self._limit = limit
        self._objects = Objects(store, settings.sizes, settings.keys, settings.seed)
        loops = [(cell.callers, cell.in_flight) for cell in cells if cell.action == "aread"]
        threads = max(cell.callers for cell in cells if cell.action != "aread")
        self._callers = Callers(threads, max((n for n, _ in loops), default=0), max((n for _, n in loops), default=1))
        self._turns: dict[tuple[str, int], int] = {}

    def prepare(self, size: int) -> None:
        """Write the objects of a size."""
        self._objects.prepare(size)

    def warm_up(self) -> None:
        """Run every cell once, check what each one read, and find how much work fits AIM_S. Raises StoreError and RunError."""
        for cell in self.cells:
            self._objects.forget(cell.size)
            timing = self._run(cell, 1)
            if cell.action in ("read", "aread"):
                self._objects.verify(cell.size, cell.text)
            if (cell.callers, cell.in_flight, cell.batch) == (1, 1, 1) and cell.action != "aread":
                self._turns[cell.action, cell.size] = min(MOST_TURNS, max(1, math.ceil(AIM_S / timing.seconds)))

    def rounds(self) -> Iterator[list[Row]]:
        """Every cell once per round, for ever; the order is random and comes from the seed."""
        order = random.Random(self._settings.seed)
        number = 0
        while True:
            shuffled = list(self.cells)
            order.shuffle(shuffled)
            yield [self._row(cell, number, position) for position, cell in enumerate(shuffled)]
            number += 1

    def close(self) -> None:
        """End the threads and loops."""
        self._callers.close()

    def _row(self, cell: Cell, number: int, position: int) -> Row:
        turns = self._turns_of(cell)
        timing = self._run(cell, turns)
        keys = turns * self._settings.keys
        size = 0 if cell.action == "exists" else cell.size
        values = (
            number, position, cell.action, cell.size, cell.callers, cell.in_flight, cell.batch,
            keys, keys * size, timing.seconds, timing.call_s,
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))

    def _turns_of(self, cell: Cell) -> int:
        if cell.action == "write":  # each turn would need new keys, and more room
            return 1
        return self._turns.get(("read" if cell.action in ("aread", "limit") else cell.action, cell.size), 1)

    def _run(self, cell: Cell, turns: int) -> Timing:
        size, places = cell.size, self._objects.places
        if cell.action == "limit":
            assert self._limit is not None
            every = [place for turn in range(turns) for place in places(size, turn)]
            return self._limit.measure(self._callers, size, cell.callers, every)
        if cell.action == "write":
            return self._write(cell)
        if cell.action == "exists":
            names = iter(self._objects.names(size) * turns)
            batches = iter(lambda: list(islice(names, cell.batch)), [])
            return self._callers.run([partial(_expect_all, self._store.exists, batch) for batch in batches], cell.callers)
        reads = [batch for turn in range(turns) for batch in self._objects.reads(size, turn, cell.batch)]
        store = self._store.scoped_reads
        if cell.action == "aread":
            waiting: list[AsyncCall] = [partial(self._store.inner.aread, store(batch)) for batch in reads]
            return self._callers.arun(waiting, cell.callers, cell.in_flight)
        calls: list[Call] = [partial(self._store.inner.read, store(batch)) for batch in reads]
        return self._callers.run(calls, cell.callers)

    def _write(self, cell: Cell) -> Timing:
        names = self._objects.fresh(cell.size)
        objects = [(name, [self._objects.data(cell.size)]) for name in names]
        several = [objects[begin : begin + cell.batch] for begin in range(0, len(objects), cell.batch)]
        calls: list[Call] = [partial(self._store.write_many, group) for group in several]
        if cell.batch == 1:
            calls = [partial(self._store.write, name, parts) for name, parts in objects]
        try:
            return self._callers.run(calls, cell.callers)
        finally:
            self._store.delete(names)
            self._store.written.difference_update(names)


def _expect_all(exists: Callable[[list[str]], int], names: list[str]) -> None:
    if (found := exists(names)) != len(names):
        raise RunError(f"only {found} of {len(names)} objects are there; something else deletes from this store")


_PIECES = 4
_GROUP = 8
"""Objects that are handed to the store by one write_many."""


class Objects:
    """``keys`` objects of each of ``sizes``, all different, in ``store``. Reads land side by side in one block of memory."""

    def __init__(self, store: Scoped, sizes: Sequence[int], keys: int, seed: int) -> None:
        self.store = store
        self.keys = keys
        self._random = np.random.default_rng(seed)
        self._memory = np.zeros(keys * max(sizes), np.uint8)
        self._digests: dict[int, list[int]] = {}
        self._written = 0

    def prepare(self, size: int) -> None:
        """Write the objects of a size."""
        self._digests[size] = []
        names = self.names(size)
        for begin in range(0, self.keys, _GROUP):
            group = [(name, self.data(size)) for name in names[begin : begin + _GROUP]]
            self._digests[size] += [xxhash.xxh3_64_intdigest(data) for _, data in group]
            self.store.write_many((name, _in_parts(data)) for name, data in group)

    def data(self, size: int) -> bytes:
        """Random bytes that no other object has."""
        return self._random.bytes(size)

    def names(self, size: int) -> list[str]:
        """Keys of the objects of a size."""
        return [f"{size}-{number}" for number in range(self.keys)]

    def fresh(self, size: int) -> list[str]:
        """Keys that were never used."""
        self._written += 1
        return [f"w{self._written}-{size}-{number}" for number in range(self.keys)]

    def places(self, size: int, turn: int) -> list[memoryview]:
        """Memory for the objects of a size, with each ``turn`` further on in the block, or small ones would stay in caches."""
        turns = max(1, self._memory.nbytes // (self.keys * size))
        begin = turn % turns * self.keys * size
        block = self._memory.data[begin : begin + self.keys * size]
        return [block[number * size : (number + 1) * size] for number in range(self.keys)]

    def reads(self, size: int, turn: int, batch: int) -> Iterator[list[Read]]:
        """All objects of a size, ``batch`` of them per call."""
        whole = [Read(name, 0, (place,)) for name, place in zip(self.names(size), self.places(size, turn), strict=True)]
        for begin in range(0, self.keys, batch):
            yield whole[begin : begin + batch]

    def forget(self, size: int) -> None:
        """Empty the memory that ``verify`` looks into."""
        for place in self.places(size, 0):
            np.frombuffer(place, np.uint8)[:] = 0

    def verify(self, size: int, what: str) -> None:
        """Raise RunError unless the first turn's memory holds what was written."""
        for name, place, digest in zip(self.names(size), self.places(size, 0), self._digests[size], strict=True):
            if xxhash.xxh3_64_intdigest(place) != digest:
                raise RunError(f"{what}: object {name} is not what was written; try ttft store check on this store")


def _in_parts(data: bytes) -> list[Buffer]:
    """As a chunk is written: several parts."""
    view, step = memoryview(data), -(-len(data) // _PIECES)
    return [view[begin : begin + step] for begin in range(0, len(data), step)]
