"""A store in front of another one: what layered, shaped, sealed, scoped, bounded and watched stores have in common."""

# ruff: noqa: D102 - each method does what the contract says, in ``inner``

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from harness.core.errors import UsageError, known
from harness.core.options import parse_options
from harness.core.text import redact
from harness.stores.base import Buffer, Read, Store, StoreOptions, check_store, open_store, unsplit


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


class NamedWrapper(Wrapper):
    """One that users put in front of another store's URL: ``name+file:///tmp/kv?option=value``. It takes the options that are
    its own; all others go to the store behind it."""

    wraps = True

    def __init__(self, url: SplitResult, options: StoreOptions, inner: Store) -> None:
        super().__init__(inner, url, options)

    @classmethod
    def check_address(cls, url: SplitResult) -> None:
        """That of the wrapped store."""
        from harness.stores import STORES

        inner = url.scheme.partition("+")[2]
        if not inner:
            shown = redact(unsplit(url))
            raise UsageError(f"'{shown}' wraps nothing; write for instance {cls.name}+file:///tmp/kv")
        STORES.get(inner.partition("+")[0]).check_address(url._replace(scheme=inner))

    @classmethod
    def settings(cls, url: SplitResult, options: Mapping[str, str]) -> StoreOptions:
        """Its own options; those of what is behind it are checked as well."""
        own, inner = cls._apart(url, options)
        settings = parse_options(cls.Options, own, f"store '{cls.name}'")
        check_store(inner)
        return settings

    @classmethod
    def open(cls, url: SplitResult, options: Mapping[str, str]) -> Store:
        """Open what is behind it with the options that are not its own."""
        settings = cls.settings(url, options)
        return cls(url, settings, open_store(cls._apart(url, options)[1]))

    @classmethod
    def _apart(cls, url: SplitResult, options: Mapping[str, str]) -> tuple[dict[str, str], str]:
        """The options that are its own, and the URL behind it with all others."""
        from harness.stores import STORES

        schemes = url.scheme.split("+")
        names: list[str] = []
        for scheme in schemes:
            store = STORES.get(scheme)
            names += store.Options.model_fields
            if not store.wraps:
                break
        for name in options:
            if name not in names:
                raise known(f"option of store '{url.scheme}'", name, names)
        own = {name: value for name, value in options.items() if name in cls.Options.model_fields}
        rest = {name: value for name, value in options.items() if name not in own}
        return own, unsplit(url._replace(scheme="+".join(schemes[1:]), query=urlencode(rest)))
