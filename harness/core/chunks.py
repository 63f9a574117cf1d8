"""What is stored: the geometry of KV, the keys of chunks, and the on-store format of a chunk. Pure.

Keys chain: ``key[i] = H(key[i-1] || tokens of chunk i)`` from a root that holds everything that
makes KV bytes unusable elsewhere, so equal keys mean equal prefixes of the same model on the same
kind of machine, and a prefix hit is a run of present keys. H is BLAKE2b, 16 bytes.

A stored chunk:

    offset 0          header, padded to a multiple of 4 KiB
    header_bytes      layer 0, padded to ``layer_stride``
    + layer_stride    layer 1 ...

Everything begins on a multiple of 4 KiB, so that each layer is one aligned range for O_DIRECT.
Header, little-endian: magic (8 bytes), version (u16), layers (u16), reserved (u32), layer bytes
(u64), layer stride (u64), geometry digest (16), chain digest of the key (16), one XXH3-64 checksum
a layer (u64 each), XXH3-64 of all of that (u64).
"""

import hashlib
import json
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NewType

import xxhash

from harness.core.errors import ChunkCorrupt, ChunkTruncated, ForeignChunk, NotAChunk

ChunkKey = NewType("ChunkKey", str)
"""Name of one stored chunk: 32 hexadecimal digits, and ``-rKofN`` behind them for rank K of N."""


SKIP = -1
"""In ``LoadRequest.blocks``: a block that must not be written."""


@dataclass(frozen=True, slots=True)
class KVGeometry:
    """Shape of one rank's KV cache, as far as bytes are concerned.

    A block is vLLM's unit: ``block_tokens`` tokens of one layer, ``block_bytes`` bytes,
    its inside packed as vLLM's attention kernel likes it. A chunk is ours: ``chunk_blocks``
    blocks of all ``layers`` layers.
    """

    layers: int
    block_tokens: int
    block_bytes: int
    chunk_blocks: int
    dtype: str

    @property
    def chunk_tokens(self) -> int:
        """Tokens in one chunk."""
        return self.block_tokens * self.chunk_blocks

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer of one chunk."""
        return self.block_bytes * self.chunk_blocks

    @property
    def chunk_bytes(self) -> int:
        """Bytes of KV in one chunk, all layers, without header and padding."""
        return self.layer_bytes * self.layers

    def digest(self) -> bytes:
        """16 bytes that differ whenever two geometries differ."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What an engine has to fetch for one request of one forward step.

    ``blocks`` are ids in the paged cache: ``chunk_blocks`` of them a chunk, in the chunks' order;
    SKIP stands for a block that is filled already and must not be touched. ``how``: what the engine chose for
    this request at the lookup, in its own words. ``deadline_ms``: for this load as a whole; 0: the engine's.
    """

    request: str
    chunks: tuple[ChunkKey, ...]
    blocks: tuple[int, ...]
    how: str = ""
    deadline_ms: int = 0


def whole_chunks(tokens: int, chunk_tokens: int) -> int:
    """``tokens`` rounded down to a whole number of chunks, in tokens."""
    return tokens - tokens % chunk_tokens


def hit_limit(prompt_tokens: int, chunk_tokens: int) -> int:
    """The longest hit vLLM may be granted: whole chunks, and at least one token left to compute."""
    return whole_chunks(max(prompt_tokens - 1, 0), chunk_tokens)


def total_bytes(parts: Sequence[memoryview | bytes | bytearray]) -> int:
    """Bytes in all parts together."""
    return sum(memoryview(part).nbytes for part in parts)


def root(identity: Mapping[str, object]) -> bytes:
    """16 bytes over ``identity``: model, dtype, geometry, format version, instruction set, namespace.

    The order of the entries does not matter; every value must be JSON.
    """
    text = json.dumps(dict(identity), sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def chain(start: bytes, tokens: Sequence[int], chunk_tokens: int) -> list[ChunkKey]:
    """Keys of the whole chunks of ``tokens``; a partial chunk at the end has none.

    Raises ValueError where ``chunk_tokens`` is not positive or a token is not in [0, 2**32).
    """
    if chunk_tokens <= 0:
        raise ValueError(f"chunk_tokens is {chunk_tokens}; it must be positive")
    count = len(tokens) // chunk_tokens
    try:
        data = _little_endian(tokens[: count * chunk_tokens])
    except OverflowError as error:
        raise ValueError("token ids must lie in [0, 2**32)") from error
    keys = []
    link = start
    step = 4 * chunk_tokens
    for i in range(count):
        link = hashlib.blake2b(link + data[i * step : (i + 1) * step], digest_size=16).digest()
        keys.append(ChunkKey(link.hex()))
    return keys


def _little_endian(tokens: Sequence[int]) -> bytes:
    """Four bytes a token. ``array`` takes a list four times as fast as numpy, and a lookup is part of TTFT."""
    data = array("I", tokens)
    if sys.byteorder == "big":
        data.byteswap()
    return data.tobytes()


def for_rank(key: ChunkKey, rank: int, world: int) -> ChunkKey:
    """The key under which rank ``rank`` of ``world`` keeps its part of the chunk."""
    return key if world == 1 else ChunkKey(f"{key}-r{rank}of{world}")


def chain_digest(key: ChunkKey) -> bytes:
    """The 16 bytes behind a key, without its rank."""
    return bytes.fromhex(key[:32])


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


def segments_of_chunk(head: bytes) -> tuple[int, ...]:
    """Where header and layers end in the chunk that begins with ``head``, by what it says itself; empty for anything else."""
    if len(head) < _FIXED.size or not head.startswith(MAGIC):
        return ()
    _, _, layers, _, _, stride, *_ = _FIXED.unpack_from(head)
    first = aligned(_FIXED.size + 8 * layers + 8)
    return tuple(first + layer * stride for layer in range(layers + 1))


def check_layer(key: ChunkKey, layer: int, expected: int, parts: Sequence[memoryview | bytes]) -> None:
    """Raises ChunkCorrupt where the bytes of a layer do not match their checksum."""
    if checksum_parts(parts) != expected:
        raise ChunkCorrupt(f"layer {layer} of chunk {key} does not match its checksum; delete it")
