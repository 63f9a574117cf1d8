"""The second way to keep a chunk: one object a layer, as layer-by-layer caches do.

``<key>`` holds the header and layer 0, ``<key>.l1`` layer 1 and so on, each padded as in the chunk file
(harness/core/chunks.py). ``<key>`` is written last and deleted first, so a lookup asks for it alone; a layer that was
lost behind it is a failed read. Equal keys mean equal bytes, so a second write may replace layer after layer.

The header of a chunk names its key, but the other layers don't lie behind it. So each of their objects begins with 4 KiB
of its own that name key, layer and geometry, and every read of it reads and checks them: another chunk's layer is never
served. Little-endian: magic (8 bytes), version (u16), layer (u16), reserved (u32), BLAKE2b of the key (16), geometry
digest (16), zeros.
"""

# ruff: noqa: D102 - methods do what the contract says, for all objects of a chunk

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.chunks import ALIGNMENT, KVGeometry, Layout
from harness.core.errors import ChunkMissing, ForeignChunk, NotAChunk, ReadFailures, StoreError
from harness.stores.base import Buffer, Read, Store
from harness.stores.wrapper import Wrapper

LABEL_BYTES = ALIGNMENT
"""What stands in front of each layer but the first, whose label is the chunk's header."""

_LAYER = re.compile(r"(.+)\.l[1-9][0-9]*")
_MAGIC = b"TTFT-KVL"
_VERSION = 1
_LABEL = struct.Struct("<8sHHI16s16s")


@dataclass(frozen=True, slots=True)
class _Part:
    """A read of one object, which serves read number ``owner``; ``label`` is where that object's own label arrives."""

    owner: int
    layer: int
    read: Read
    label: bytearray | None


class Layered(Wrapper):
    """Chunks of one geometry, a layer an object, in another store, which it closes with itself."""

    def __init__(self, inner: Store, geometry: KVGeometry) -> None:
        super().__init__(inner)
        self._layout = Layout(geometry)
        self._layers = geometry.layers
        self._geometry_digest = geometry.digest()

    def names(self, key: str) -> list[str]:
        """The objects of a chunk, in the order of its layers."""
        return [self._name(key, layer) for layer in range(self._layers)]

    def objects(self, item: Read) -> int:
        return self._place(item.offset + max(item.length - 1, 0))[0] - self._place(item.offset)[0] + 1

    def read(self, reads: Sequence[Read]) -> None:
        """All layers of all reads in one batch."""
        parts = self._parts(reads)
        failures: Mapping[int, StoreError] = {}
        try:
            self.inner.read([part.read for part in parts])
        except ReadFailures as error:
            failures = error.failures
        self._settle(reads, parts, failures)

    async def aread(self, reads: Sequence[Read]) -> None:
        parts = self._parts(reads)
        failures: Mapping[int, StoreError] = {}
        try:
            await self.inner.aread([part.read for part in parts])
        except ReadFailures as error:
            failures = error.failures
        self._settle(reads, parts, failures)

    def _settle(self, reads: Sequence[Read], parts: Sequence[_Part], failed: Mapping[int, StoreError]) -> None:
        """Raise for what failed, and for objects that are not what their names say."""
        failures: dict[int, StoreError] = {}
        for position, part in enumerate(parts):
            error = failed.get(position)
            if error is None and part.label is not None:
                error = self._mislabelled(reads[part.owner].key, part)
            if error is not None:
                failures.setdefault(part.owner, error)
        if failures:
            raise ReadFailures(failures)

    def _mislabelled(self, key: str, part: _Part) -> StoreError | None:
        assert part.label is not None
        if part.label[: _LABEL.size] == self._label(key, part.layer):
            return None
        if not part.label.startswith(_MAGIC):
            return NotAChunk(f"object {part.read.key} is no layer of ours: something else wrote it; delete it")
        return ForeignChunk(f"object {part.read.key} holds another layer, chunk or model than its name says; delete it")

    def _label(self, key: str, layer: int) -> bytes:
        name = hashlib.blake2b(key.encode(), digest_size=16).digest()
        return _LABEL.pack(_MAGIC, _VERSION, layer, 0, name, self._geometry_digest)

    def _parts(self, reads: Sequence[Read]) -> list[_Part]:
        return [part for owner, item in enumerate(reads) for part in self._parts_of(owner, item)]

    def _parts_of(self, owner: int, item: Read) -> Iterator[_Part]:
        for layer, offset, out in self._cut(item.offset, item.out):
            name = self._name(item.key, layer)
            if layer == 0:
                yield _Part(owner, layer, Read(name, offset, out, item.deadline), None)
                continue
            label = bytearray(LABEL_BYTES)
            head = (memoryview(label),)
            if offset == 0:  # the usual case: one range, beginning with the label
                yield _Part(owner, layer, Read(name, 0, head + out, item.deadline), label)
            else:
                yield _Part(owner, layer, Read(name, 0, head, item.deadline), label)
                yield _Part(owner, layer, Read(name, LABEL_BYTES + offset, out, item.deadline), None)

    def _cut(self, start: int, parts: Sequence[memoryview]) -> list[tuple[int, int, tuple[memoryview, ...]]]:
        """A range of a chunk as ranges of its layers: layer, offset in it, and memory."""
        layer, offset = self._place(start)
        found: list[tuple[int, int, tuple[memoryview, ...]]] = []
        out: list[memoryview] = []
        room = self._room(layer) - offset
        for part in parts:
            while part.nbytes > room:
                found.append((layer, offset, (*out, part[:room])))
                part, layer, offset, out = part[room:], layer + 1, 0, []
                room = self._room(layer)
            out.append(part)
            room -= part.nbytes
        if out or not found:
            found.append((layer, offset, tuple(out)))
        return found

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """The layers, then the object that makes the chunk known."""
        (_, _, first), *others = self._cut(0, [memoryview(part).cast("B") for part in parts])
        self.inner.write_many(
            (self._name(key, layer), (self._label(key, layer).ljust(LABEL_BYTES, b"\0"), *out)) for layer, _, out in others
        )
        beyond = self.names(key)[1 + len(others) :]
        if beyond:  # of a longer object that stood here
            self.inner.delete(beyond)
        self.inner.write(key, first)

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        for key, parts in objects:
            self.write(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        """First what makes the chunks known, then their layers."""
        keys = list(keys)
        self.inner.delete(keys)
        self.inner.delete([name for key in keys for name in self.names(key)[1:]])

    def keys(self) -> Iterator[str]:
        """Of chunks, not of their layers."""
        return filter(lambda key: not is_layer(key), self.inner.keys())

    def size(self, key: str) -> int:
        """All layers together, without their labels. Raises ChunkMissing."""
        total = self.inner.size(key)
        for name in self.names(key)[1:]:
            try:
                total += self.inner.size(name) - LABEL_BYTES
            except ChunkMissing:
                break
        return total

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        return self.inner.evict_from_os_cache(self._all_names(keys))

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        self.inner.fill_os_cache(self._all_names(keys))

    def cached_fraction(self, keys: Iterable[str]) -> float | None:
        return self.inner.cached_fraction(self._all_names(keys))

    def _all_names(self, keys: Iterable[str]) -> list[str]:
        return [name for key in keys for name in self.names(key)]

    def _name(self, key: str, layer: int) -> str:
        return f"{key}.l{layer}" if layer else key

    def _place(self, offset: int) -> tuple[int, int]:
        """The layer in whose object a byte of the chunk lies, and where in the layer (for the first one, in the object)."""
        layer = max(0, min((offset - self._layout.header_bytes) // self._layout.layer_stride, self._layers - 1))
        return layer, offset - (self._layout.offset(layer) if layer else 0)

    def _room(self, layer: int) -> int:
        """Bytes of the chunk in the object of a layer; the last one takes whatever comes."""
        if layer == self._layers - 1:
            return 1 << 62
        return self._layout.offset(1) if layer == 0 else self._layout.layer_stride


def is_layer(key: str) -> bool:
    """Whether an object of that name is a layer with a label, not a chunk or its first layer."""
    return _LAYER.fullmatch(key) is not None


def in_layout(store: Store, start: Mapping[str, Any]) -> Store:
    """``store`` as a worker uses it that began its trace with the record ``start`` (connector/vllm_connector.py)."""
    if start.get("identity", {}).get("layout", "chunk") == "chunk":
        return store
    return Layered(store, KVGeometry(**start["geometry"]))
