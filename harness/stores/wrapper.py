"""A store in front of another one: what layered, shaped, scoped, bounded and watched stores have in common."""

# ruff: noqa: D102 - each method does what the contract says, in ``inner``

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from harness.stores.base import Buffer, Read, Store, StoreOptions


class Wrapper(Store):
    """Passes everything on to ``inner``, which it closes with itself. A subclass overrides what differs."""

    keeps_deadlines = True

    def __init__(self, inner: Store, url: SplitResult | None = None, options: StoreOptions | None = None) -> None:
        """``url`` is shown as its own if it has one; else that of ``inner``."""
        super().__init__(url or urlsplit("wrapper://"), options or StoreOptions())
        if url is None:
            self.url = inner.url
        self.inner = inner
        self.replaces = inner.replaces
        self.fills = inner.fills

    @property
    def notes(self) -> tuple[str, ...]:
        return self.inner.notes

    def register(self, buffers: Sequence[Any]) -> None:
        self.inner.register(buffers)

    def objects(self, item: Read) -> int:
        return self.inner.objects(item)

    def exists(self, keys: Sequence[str]) -> int:
        return self.inner.exists(keys)

    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read(reads)

    async def aread(self, reads: Sequence[Read]) -> None:
        await self.inner.aread(reads)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.inner.write(key, parts)

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        self.inner.write_many(objects)

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

    def close(self) -> None:
        self.inner.close()
