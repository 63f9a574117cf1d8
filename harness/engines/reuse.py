"""Chunks that several loads want at a time: one reads them from the store, the others copy them from its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.chunks import SKIP, ChunkKey
from harness.engines.fetch import Piece
from harness.engines.paged import PagedKV
from harness.engines.queued import Call, Load


@dataclass(eq=False, slots=True)
class Source:
    """Layers of a chunk in the blocks of ``load``: in place, or on their way there with calls that wait to copy them."""

    load: Load
    piece: Piece
    in_place: bool = False
    followers: list[Call] = field(default_factory=list)


class Reuse:
    """Who has what. The engine's lock guards all calls but ``copy``. For caches in host memory."""

    def __init__(self, cache: PagedKV) -> None:
        self._cache = cache
        self._sources: dict[tuple[ChunkKey, int], Source] = {}

    def of(self, piece: Piece) -> Source | None:
        """From where a piece can be copied, now or soon."""
        return self._sources.get(_key(piece))

    def begin(self, load: Load, piece: Piece) -> Source:
        """``load`` reads a piece that nobody has. Blocks that it skips are not there for others."""
        source = Source(load, piece)
        if SKIP not in self._blocks(piece):
            self._sources[_key(piece)] = source
        return source

    def arrived(self, source: Source, good: bool) -> Sequence[Call]:
        """The read is over; the calls that waited for it, for each of which the source's load stays busy if it was good."""
        followers, source.followers = source.followers, []
        source.in_place = good
        if good:
            source.load.busy += len(followers)
        elif self._sources.get(_key(source.piece)) is source:
            del self._sources[_key(source.piece)]
        return followers

    def forget(self, load: Load) -> None:
        """Nobody may begin to copy from this load's blocks any more."""
        self._sources = {key: source for key, source in self._sources.items() if source.load is not load}

    def copy(self, source: Source, piece: Piece) -> int:
        """From the source's blocks to those of the piece; returns the bytes."""
        pairs = [(ours, own) for ours, own in zip(self._blocks(source.piece), self._blocks(piece), strict=True) if own != SKIP]
        for layer in range(piece.first, piece.first + piece.count):
            theirs = self._cache.targets(layer, [block for block, _ in pairs])
            for target, data in zip(self._cache.targets(layer, [block for _, block in pairs]), theirs, strict=True):
                np.copyto(np.asarray(target), np.asarray(data))
        return len(pairs) * piece.count * self._cache.geometry.block_bytes

    def _blocks(self, piece: Piece) -> Sequence[int]:
        per = self._cache.geometry.chunk_blocks
        return piece.request.blocks[piece.index * per : (piece.index + 1) * per]


def _key(piece: Piece) -> tuple[ChunkKey, int]:
    return piece.request.chunks[piece.index], piece.first
