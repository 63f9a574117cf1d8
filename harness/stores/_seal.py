"""The seal in front of an object: keyed tags by which a reader knows that somebody with the secret wrote these bytes. Pure.

An object is cut into segments: header and layers of a chunk (core/chunks.py), label and layer where a layer is an object
(layered.py), else ``SEGMENT`` bytes each. The seal, little-endian and padded to a multiple of 4 KiB: magic (8 bytes), segments
(u32), reserved (u32), then per segment where it ends in the object (u64) and its tag (16), then the tag of all of that (16). A
tag is BLAKE2b with a key, over the object's name, what it is a tag of, the segment's number and its bytes; the key is the
BLAKE2b of the secret.
"""

import hashlib
import hmac
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.core.chunks import ALIGNMENT, aligned, segments_of_chunk, total_bytes
from harness.core.errors import ChunkCorrupt, ChunkTruncated, NotAChunk, StoreError
from harness.stores.base import Buffer
from harness.stores.layered import LABEL_BYTES, is_layer

MAGIC = b"TTFT-KVS"
SEGMENT = 1 << 20
MOST_SEGMENTS = 1 << 16
"""Whoever can write to the store decides what a seal says of its length, which is believed before the seal is checked."""

_HEAD = struct.Struct("<8sII")
_ENTRY = struct.Struct("<Q16s")
_TAG = 16


@dataclass(frozen=True, slots=True)
class Seal:
    """Where the segments of an object end, and their tags. ``size``: bytes of the seal itself."""

    size: int
    ends: tuple[int, ...]
    tags: tuple[bytes, ...]

    @property
    def total(self) -> int:
        """Bytes of the object behind it."""
        return self.ends[-1] if self.ends else 0

    def around(self, offset: int, length: int) -> tuple[int, int]:
        """Begin and end of the whole segments in which a range of the object lies; of the range itself where it is empty or goes
        beyond the object's end."""
        end = offset + length
        if not length or end > self.total:
            return offset, end
        first = bisect_right(self.ends, offset)
        return (self.ends[first - 1] if first else 0), self.ends[bisect_left(self.ends, end)]


class Sealer:
    """Makes and checks seals with one secret."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.blake2b(secret.encode(), digest_size=32).digest()

    def seal(self, name: str, parts: Sequence[Buffer]) -> bytes:
        """The padded seal of the object that consists of ``parts``. Raises StoreError where it is too long."""
        views = [memoryview(part).cast("B") for part in parts]
        head = b"".join(bytes(view[:ALIGNMENT]) for view in views[:2])
        ends = _ends(name, total_bytes(views), head)
        if len(ends) > MOST_SEGMENTS:
            raise StoreError(f"object {name} has {ends[-1]} bytes, more than a seal takes; use chunks of fewer tokens")
        tags = [self._tag(name, "segment", number, own) for number, own in enumerate(_segments(views, ends))]
        table = _HEAD.pack(MAGIC, len(ends), 0) + b"".join(map(_ENTRY.pack, ends, tags))
        seal = table + self._tag(name, "seal", 0, [table])
        return seal.ljust(aligned(len(seal)), b"\0")

    def opened(self, name: str, data: memoryview) -> Seal:
        """The seal that ``data`` begins with, all of it. Raises ChunkCorrupt."""
        _, count, _ = _HEAD.unpack_from(data)
        end = _HEAD.size + count * _ENTRY.size
        if not hmac.compare_digest(data[end : end + _TAG], self._tag(name, "seal", 0, [data[:end]])):
            raise ChunkCorrupt(f"the seal of object {name} is damaged, or was made with another secret; delete the object")
        entries = list(_ENTRY.iter_unpack(data[_HEAD.size : end]))
        return Seal(aligned(end + _TAG), tuple(end for end, _ in entries), tuple(tag for _, tag in entries))

    def check(self, name: str, seal: Seal, offset: int, data: memoryview) -> None:
        """Raises ChunkCorrupt or ChunkTruncated unless ``data`` are whole segments, the first of which holds ``offset``."""
        first, at = bisect_right(seal.ends, offset), 0
        while at < data.nbytes:
            if first == len(seal.ends):
                raise ChunkTruncated(f"object {name} has {seal.total} bytes, and more were wanted; delete it")
            size = seal.ends[first] - (seal.ends[first - 1] if first else 0)
            if not hmac.compare_digest(seal.tags[first], self._tag(name, "segment", first, [data[at : at + size]])):
                raise ChunkCorrupt(f"object {name} does not match its seal: it is damaged, or somebody changed it; delete it")
            first, at = first + 1, at + size

    def _tag(self, name: str, what: str, number: int, parts: Sequence[Buffer]) -> bytes:
        state = hashlib.blake2b(key=self._key, digest_size=_TAG)
        state.update(f"{name}\0{what}\0{number}\0".encode())
        for part in parts:
            state.update(part)
        return state.digest()


def seal_size(name: str, data: memoryview) -> int:
    """Bytes of the seal that ``data`` begins with, whether or not it is genuine. Raises NotAChunk."""
    magic, count, _ = _HEAD.unpack_from(data)
    if magic != MAGIC or count > MOST_SEGMENTS:
        raise NotAChunk(f"object {name} is not sealed; delete it, or open the store without sealed+")
    return aligned(_HEAD.size + count * _ENTRY.size + _TAG)


def _ends(name: str, size: int, head: bytes) -> tuple[int, ...]:
    """Where the segments of an object of ``size`` bytes end."""
    inner: Sequence[int] = segments_of_chunk(head) or ((LABEL_BYTES,) if is_layer(name) else ())
    return (*(end for end in inner or range(SEGMENT, size, SEGMENT) if 0 < end < size), size) if size else ()


def _segments(views: Sequence[memoryview], ends: Sequence[int]) -> Iterator[list[memoryview]]:
    """The bytes of each segment, without a copy."""
    rest, place = list(views), 0
    for begin, end in pairwise((0, *ends)):
        own: list[memoryview] = []
        left = end - begin
        while left:
            piece = rest[place][:left]
            own.append(piece)
            left -= piece.nbytes
            rest[place] = rest[place][piece.nbytes :]
            place += not rest[place].nbytes
        yield own
