"""The objects that are measured with, and the memory that they are read into."""

from collections.abc import Iterator, Sequence

import numpy as np
import xxhash

from harness.core.errors import RunError
from harness.stores._checks import Scoped
from harness.stores.base import Buffer, Read

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
        """All objects of a size, ``batch`` of them a call."""
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
