"""The second way to keep a chunk: one object a layer, as layer-by-layer caches do.

``<key>`` holds the header and layer 0, ``<key>.l1`` layer 1 and so on, each padded as in the chunk file
(harness/core/chunks.py). ``<key>`` is written last and deleted first, so a lookup asks for it alone; a layer that was
lost behind it is a failed read. Equal keys mean equal bytes, so a second write may replace layer after layer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from harness.core.chunks import KVGeometry, Layout
from harness.core.errors import ChunkMissing, ReadFailures, StoreError
from harness.stores.base import Buffer, Read, Store, StoreOptions

_LAYER = re.compile(r"(.+)\.l[1-9][0-9]*")


class Layered(Store):
    """Chunks of one geometry, a layer an object, in another store, which it closes with itself."""

    def __init__(self, inner: Store, geometry: KVGeometry) -> None:
        super().__init__(urlsplit("layered://"), StoreOptions())
        self.url = inner.url
        self.inner = inner
        self.replaces = inner.replaces
        self.fills = inner.fills
        self._layout = Layout(geometry)
        self._layers = geometry.layers

    def names(self, key: str) -> list[str]:
        """The objects of a chunk, in the order of its layers."""
        return [key, *(f"{key}.l{layer}" for layer in range(1, self._layers))]

    def objects(self, item: Read) -> int:
        """How many objects the range lies in."""
        return self._place(item.offset + max(item.length - 1, 0))[0] - self._place(item.offset)[0] + 1

    def register(self, buffers: Sequence[Any]) -> None:
        """Of the store behind it."""
        self.inner.register(buffers)

    def exists(self, keys: Sequence[str]) -> int:
        """One object a chunk is asked for."""
        return self.inner.exists(keys)

    def read(self, reads: Sequence[Read]) -> None:
        """All layers of all reads in one batch."""
        inner, owners = self._cut_all(reads)
        try:
            self.inner.read(inner)
        except ReadFailures as error:
            raise _outer(error, owners) from None

    async def aread(self, reads: Sequence[Read]) -> None:
        """As ``read``."""
        inner, owners = self._cut_all(reads)
        try:
            await self.inner.aread(inner)
        except ReadFailures as error:
            raise _outer(error, owners) from None

    def _cut_all(self, reads: Sequence[Read]) -> tuple[list[Read], list[int]]:
        """The reads of objects, and for each the position of the read that it serves."""
        cut = [self._cut(item) for item in reads]
        return [one for several in cut for one in several], [i for i, several in enumerate(cut) for _ in several]

    def _cut(self, item: Read) -> list[Read]:
        """A range of a chunk as ranges of its objects."""
        layer, offset = self._place(item.offset)
        found: list[Read] = []
        out: list[memoryview] = []
        room = self._room(layer) - offset
        for part in item.out:
            while part.nbytes > room:
                found.append(Read(self._name(item.key, layer), offset, (*out, part[:room])))
                part, layer, offset, out = part[room:], layer + 1, 0, []
                room = self._room(layer)
            out.append(part)
            room -= part.nbytes
        if out or not found:
            found.append(Read(self._name(item.key, layer), offset, tuple(out)))
        return found

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """The layers, then the object that makes the chunk known."""
        whole = [memoryview(part).cast("B") for part in parts]
        objects = self._cut(Read(key, 0, tuple(whole)))
        self.inner.write_many((item.key, item.out) for item in objects[1:])
        beyond = self.names(key)[len(objects) :]
        if beyond:  # of a longer object that stood here
            self.inner.delete(beyond)
        self.inner.write(key, objects[0].out)

    def delete(self, keys: Iterable[str]) -> None:
        """First what makes the chunks known, then their layers."""
        keys = list(keys)
        self.inner.delete(keys)
        self.inner.delete([name for key in keys for name in self.names(key)[1:]])

    def keys(self) -> Iterator[str]:
        """Of chunks, not of their layers."""
        return filter(lambda key: not _LAYER.fullmatch(key), self.inner.keys())

    def size(self, key: str) -> int:
        """All layers together. Raises ChunkMissing."""
        total = self.inner.size(key)
        for name in self.names(key)[1:]:
            try:
                total += self.inner.size(name)
            except ChunkMissing:
                break
        return total

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """All their objects."""
        return self.inner.evict_from_os_cache([name for key in keys for name in self.names(key)])

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        """All their objects. Raises ChunkMissing."""
        self.inner.fill_os_cache([name for key in keys for name in self.names(key)])

    def cached_fraction(self, keys: Iterable[str]) -> float | None:
        """Of the bytes of all their objects. Raises ChunkMissing."""
        return self.inner.cached_fraction([name for key in keys for name in self.names(key)])

    def close(self) -> None:
        """Close the store behind it."""
        self.inner.close()

    def _name(self, key: str, layer: int) -> str:
        return f"{key}.l{layer}" if layer else key

    def _place(self, offset: int) -> tuple[int, int]:
        """The object in which a byte of the chunk lies, and where in it."""
        layer = max(0, min((offset - self._layout.header_bytes) // self._layout.layer_stride, self._layers - 1))
        return layer, offset - (self._layout.offset(layer) if layer else 0)

    def _room(self, layer: int) -> int:
        """Bytes in the object of a layer; the last one takes whatever comes."""
        if layer == self._layers - 1:
            return 1 << 62
        return self._layout.offset(1) if layer == 0 else self._layout.layer_stride


def in_layout(store: Store, start: Mapping[str, Any]) -> Store:
    """``store`` as a worker uses it that began its trace with the record ``start`` (connector/vllm_connector.py)."""
    if start.get("identity", {}).get("layout", "chunk") == "chunk":
        return store
    return Layered(store, KVGeometry(**start["geometry"]))


def _outer(error: ReadFailures, owners: Sequence[int]) -> ReadFailures:
    failures: dict[int, StoreError] = {}
    for position, reason in sorted(error.failures.items()):
        failures.setdefault(owners[position], reason)
    return ReadFailures(failures)
