"""A part of a store for oneself: keys behind a prefix of one's own, and a list of what to clean up."""

# ruff: noqa: D102 - methods do what the contract says, with the prefix

import secrets
from collections.abc import Iterable, Iterator, Sequence

from harness.core.errors import StoreError
from harness.stores.base import Buffer, Read, Store, open_store
from harness.stores.wrapper import Wrapper

MOST_AT_ONCE = 1000
"""Keys that ``clean`` deletes by one call."""


def fresh_prefix(what: str) -> str:
    """What keys of this run begin with, and nobody else's: 64 random bits."""
    return f"ttft-{what}-{secrets.token_hex(8)}-"


def clean(part: "Scoped") -> None:
    """Delete what was written there. Raises StoreError that names the keys where it cannot, or is interrupted once more."""
    left = f"objects are left behind, with keys that begin with {part.prefix}"
    try:
        part.clean()
    except StoreError as error:
        raise StoreError(f"{left}: {error}") from error
    except KeyboardInterrupt:
        raise StoreError(f"interrupted while deleting; {left}") from None


class Scoped(Wrapper):
    """``inner`` through keys that begin with ``prefix``; others are not read, listed or deleted.

    ``address`` is the URL as it was given, secrets included, for opening the store once more. An empty prefix
    is for a store that holds nothing else. Remembers what was written, so that ``clean`` need not list the store.
    """

    def __init__(self, inner: Store, address: str, prefix: str = "") -> None:
        super().__init__(inner)
        self.address = address
        self.prefix = prefix
        self.written: set[str] = set()

    def again(self) -> "Scoped":
        """The same part of the store, opened once more; close it."""
        return Scoped(open_store(self.address), self.address, self.prefix)

    def clean(self) -> None:
        """Delete what was written here. Raises StoreError."""
        while self.written:
            some = [key for _, key in zip(range(MOST_AT_ONCE), self.written, strict=False)]
            self.inner.delete(map(self._full, some))
            self.written.difference_update(some)

    def _full(self, key: str) -> str:
        return self.prefix + key

    def scoped_reads(self, reads: Sequence[Read]) -> list[Read]:
        """The same reads for ``inner``: with the prefix."""
        if not self.prefix:
            return list(reads)
        return [Read(self.prefix + item.key, item.offset, item.out, item.deadline) for item in reads]

    def exists(self, keys: Sequence[str]) -> int:
        return self.inner.exists([*map(self._full, keys)])

    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read(self.scoped_reads(reads))

    async def aread(self, reads: Sequence[Read]) -> None:
        await self.inner.aread(self.scoped_reads(reads))

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Noted before it is begun: a write that was cut off may have written."""
        self.written.add(key)
        self.inner.write(self._full(key), parts)

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """As ``write``."""
        self.inner.write_many((self._noted(key), parts) for key, parts in objects)

    def _noted(self, key: str) -> str:
        self.written.add(key)
        return self._full(key)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(map(self._full, keys))

    def keys(self) -> Iterator[str]:
        """Those with the prefix, without it. Lists the whole store."""
        own = filter(lambda key: key.startswith(self.prefix), self.inner.keys())
        return (key.removeprefix(self.prefix) for key in own)

    def size(self, key: str) -> int:
        return self.inner.size(self._full(key))

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        return self.inner.evict_from_os_cache(map(self._full, keys))

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        self.inner.fill_os_cache(map(self._full, keys))

    def cached_fraction(self, keys: Iterable[str]) -> float | None:
        return self.inner.cached_fraction(map(self._full, keys))
