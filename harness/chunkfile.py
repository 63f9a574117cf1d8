"""The on-store format of a chunk, and where its layers lie. Pure.

    offset 0          header, padded to a multiple of 4 KiB
    header_bytes      layer 0, padded to ``layer_stride``
    + layer_stride    layer 1 ...

Everything begins on a multiple of 4 KiB, so that each layer is one aligned range for O_DIRECT.
Header, little-endian: magic (8 bytes), version (u16), layers (u16), reserved (u32), layer bytes
(u64), layer stride (u64), geometry digest (16), chain digest of the key (16), one XXH3-64 checksum
a layer (u64 each), XXH3-64 of all of that (u64).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from harness.errors import ChunkCorrupt, ChunkTruncated, ForeignChunk, NotAChunk
from harness.keys import chain_digest
from harness.types import ChunkKey, KVGeometry

MAGIC = b"TTFT-KV\x00"
VERSION = 1
ALIGNMENT = 4096

_FIXED = struct.Struct("<8sHHIQQ16s16s")


def aligned(size: int) -> int:
    """``size`` rounded up to a multiple of 4 KiB."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def checksum(data: memoryview | bytes | bytearray) -> int:
    """XXH3-64 of contiguous bytes."""
    return xxhash.xxh3_64_intdigest(data)


def checksum_parts(parts: Sequence[memoryview | bytes | bytearray]) -> int:
    """XXH3-64 of the parts one after the other, as if they were joined."""
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.intdigest()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a chunk of this geometry lie, in bytes."""

    geometry: KVGeometry

    @property
    def header_bytes(self) -> int:
        """Length of the padded header."""
        return aligned(_FIXED.size + 8 * self.geometry.layers + 8)

    @property
    def layer_stride(self) -> int:
        """Distance between the beginnings of two layers."""
        return aligned(self.geometry.layer_bytes)

    @property
    def padding(self) -> int:
        """Bytes between the end of a layer's data and the next layer; 0 for the usual block sizes."""
        return self.layer_stride - self.geometry.layer_bytes

    @property
    def total_bytes(self) -> int:
        """Length of the whole object."""
        return self.header_bytes + self.geometry.layers * self.layer_stride

    def offset(self, layer: int) -> int:
        """Where layer ``layer`` begins. Raises IndexError outside [0, layers]."""
        if not 0 <= layer <= self.geometry.layers:
            raise IndexError(f"layer {layer} of {self.geometry.layers}")
        return self.header_bytes + layer * self.layer_stride


def encode_header(layout: Layout, key: ChunkKey, checksums: Sequence[int]) -> bytes:
    """The padded header of the chunk ``key``; one checksum a layer, over its ``layer_bytes``."""
    geometry = layout.geometry
    if len(checksums) != geometry.layers:
        raise ValueError(f"{len(checksums)} checksums for {geometry.layers} layers")
    fixed = _FIXED.pack(
        MAGIC, VERSION, geometry.layers, 0, geometry.layer_bytes, layout.layer_stride,
        geometry.digest(), chain_digest(key),
    )  # fmt: skip
    body = fixed + struct.pack(f"<{geometry.layers}Q", *checksums)
    body += struct.pack("<Q", checksum(body))
    return body.ljust(layout.header_bytes, b"\x00")


def check_header(layout: Layout, key: ChunkKey, header: memoryview | bytes | bytearray) -> tuple[int, ...]:
    """The layers' checksums, once the header is known to be that of chunk ``key``.

    Raises NotAChunk, ChunkTruncated, ForeignChunk or ChunkCorrupt.
    """
    view = memoryview(header).cast("B")
    if bytes(view[: len(MAGIC)]) != MAGIC:
        raise NotAChunk(f"chunk {key} does not begin with our magic: something else wrote it; delete it")
    if len(view) < _FIXED.size:
        raise ChunkTruncated(f"chunk {key} ends inside its header, after {len(view)} bytes; delete it")
    _, version, layers, _, layer_bytes, stride, geometry, link = _FIXED.unpack_from(view)
    if version != VERSION:
        raise ForeignChunk(f"chunk {key} has format version {version}, this is version {VERSION}; delete it")
    end = _FIXED.size + 8 * layers
    if len(view) < end + 8:
        raise ChunkTruncated(f"chunk {key} ends inside its header, after {len(view)} bytes; delete it")
    if struct.unpack_from("<Q", view, end)[0] != checksum(view[:end]):
        raise ChunkCorrupt(f"the header of chunk {key} does not match its checksum; delete it")
    expected = (layout.geometry.layers, layout.geometry.layer_bytes, layout.layer_stride, layout.geometry.digest())
    if (layers, layer_bytes, stride, geometry) != expected:
        raise ForeignChunk(f"chunk {key} was written for another model or cache layout; use another namespace")
    if link != chain_digest(key):
        raise ForeignChunk(f"the object under {key} holds chunk {link.hex()}; delete it")
    return tuple(struct.unpack_from(f"<{layers}Q", view, _FIXED.size))


def check_layer(key: ChunkKey, layer: int, expected: int, parts: Sequence[memoryview | bytes]) -> None:
    """Raises ChunkCorrupt where the bytes of a layer do not match their checksum."""
    if checksum_parts(parts) != expected:
        raise ChunkCorrupt(f"layer {layer} of chunk {key} does not match its checksum; delete it")
