"""The physical limit beside a store: the same bytes without it, by fio for files and by a bare socket for the network."""

from collections.abc import Sequence
from typing import Protocol

from harness.stores._bench.callers import Callers, Timing
from harness.stores._bench.fio import FioLimit, fio_program
from harness.stores._bench.socket_copy import SocketLimit
from harness.stores.base import Store
from harness.stores.files.directory import DirectoryStore
from harness.stores.files.disk import DiskStore
from harness.stores.files.memory import MemoryStore
from harness.stores.shaped import ShapedStore

BLOCK = 4096
"""What direct reads are made of."""


class Limit(Protocol):
    """Moves the bytes of objects without the store."""

    name: str
    """What it is, for tables."""

    def measure(self, callers: Callers, size: int, streams: int, places: list[memoryview]) -> Timing:
        """Fill ``places``, each with an object of ``size`` bytes, over so many streams at once."""

    def close(self) -> None:
        """Remove what it made."""


def limit_of(store: Store, sizes: Sequence[int], keys: int) -> tuple[Limit | None, str]:
    """The limit of this kind of store, and what is to be said of it. ``keys`` objects of each size will be read."""
    largest = max(sizes)
    if isinstance(store, ShapedStore):
        return None, "no limit is measured beside a shaped store: it is as fast as its URL asks for"
    if not isinstance(store, DirectoryStore):
        return SocketLimit(largest), (
            "limit: a bare socket over this machine's loopback, from a process that does nothing else; what copying "
            "costs here, not what a network between two machines allows"
        )
    direct = isinstance(store, DiskStore) and store.options.direct
    program = fio_program()
    if program is None:
        return None, "no limit is measured beside it: fio is not installed (Debian: apt-get install fio)"
    if direct and any(size % BLOCK for size in sizes):
        return None, f"no limit is measured beside it: fio's direct reads want sizes that are multiples of {BLOCK:,} bytes"
    where = "memory" if isinstance(store, MemoryStore) else "page cache" if not direct else "disk"
    text = f"limit: fio reads of the same size from one open file of the same file system ({where}), into one small buffer"
    return FioLimit(program, store.root, keys * largest, direct), text
