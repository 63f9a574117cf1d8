"""A store that passes everything on to another: what broken ones spoil, and watching ones look at."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from harness.stores.base import Buffer, Read, Store, StoreOptions


class Faithful(Store):
    """Passes everything on: what the broken ones spoil."""

    def __init__(self, inner: Store) -> None:
        super().__init__(urlsplit("faithful://"), StoreOptions())
        self.inner = inner
        self.url = inner.url
        self.lock = threading.Lock()

    def exists(self, keys: Sequence[str]) -> int:
        return self.inner.exists(keys)

    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read(reads)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.inner.write(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def keys(self) -> Iterator[str]:
        return self.inner.keys()

    def size(self, key: str) -> int:
        return self.inner.size(key)

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        return self.inner.evict_from_os_cache(keys)

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        self.inner.fill_os_cache(keys)

    def cached_fraction(self, keys: Iterable[str]) -> float | None:
        return self.inner.cached_fraction(keys)


def whole(parts: Sequence[Buffer]) -> bytes:
    return b"".join(bytes(memoryview(part).cast("B")) if memoryview(part).nbytes else b"" for part in parts)
