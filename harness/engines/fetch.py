"""One store call of an engine, from plan to bytes in the paged cache. Shared by all engines.

A piece is a run of layers of one chunk. Where the store fills the memory that the cache is in, blocks are the
targets of the read (no copy); elsewhere the piece lands in staging memory and is copied layer by layer.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.core.chunks import SKIP, ChunkKey, Layout, LoadRequest, check_header, check_layer
from harness.core.errors import ReadFailures, StoreError
from harness.core.spans import Recorder, Span
from harness.engines.paged import PagedKV, staging
from harness.stores.base import Read, Store


@dataclass(frozen=True, slots=True)
class Piece:
    """Layers ``first`` to ``first + count - 1`` of chunk number ``index`` of a request."""

    request: LoadRequest
    index: int
    first: int
    count: int


@dataclass(slots=True)
class _Landing:
    """Where a piece's bytes arrive: the header if it is part of the read, and staging memory if needed."""

    read: Read
    header: bytearray | None
    staged: torch.Tensor | None


class Fetcher:
    """Moves pieces. Thread-safe: keeps no state between calls but the device stream."""

    def __init__(self, store: Store, cache: PagedKV, recorder: Recorder, *, staged: bool, verify: bool) -> None:
        """``staged`` forces the general path; ``verify`` checks the layers' checksums (headers are always checked)."""
        self.store = store
        self.cache = cache
        self.recorder = recorder
        self.layout = Layout(cache.geometry)
        self.verify = verify
        self.staged = staged or cache.memory not in store.fills
        self.stream = torch.cuda.Stream(cache.device) if cache.device.type == "cuda" else None
        # A store fills a GPU's memory without regard to CUDA's order of work, so its reads wait for this on the host.
        self._free = torch.cuda.Event(blocking=True) if self.stream is not None and not self.staged else None
        self._scratch: Any = None
        if not self.staged:
            self._scratch = cache.scratch(max(cache.geometry.block_bytes, self.layout.padding, 1))
            if cache.memory == "device":
                store.register(cache.buffers())

    def blocks(self, piece: Piece) -> tuple[int, ...]:
        """The paged blocks of the piece's chunk."""
        per = self.cache.geometry.chunk_blocks
        return piece.request.blocks[piece.index * per : (piece.index + 1) * per]

    def begin_step(self) -> None:
        """On CUDA: copies and reads of this step come after all work queued so far, which may still read the blocks."""
        if self.stream is not None:
            current = torch.cuda.current_stream(self.cache.device)
            self.stream.wait_stream(current)
            if self._free is not None:
                self._free.record(current)

    def fetch(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Read the pieces (of one request) in one store call and put them in place; returns those that failed."""
        landings = [self._land(piece) for piece in pieces]
        if self._free is not None:
            self._free.synchronize()
        start = time.perf_counter()
        try:
            self.store.read([landing.read for landing in landings])
            failures: dict[int, StoreError] = {}
        except StoreError as error:
            failures = _failures(error, len(pieces))
        return self._finish(pieces, landings, start, failures)

    async def afetch(self, pieces: Sequence[Piece]) -> list[Piece]:
        """``fetch`` for an event loop, through the store's ``aread``."""
        landings = [self._land(piece) for piece in pieces]
        if self._free is not None and not self._free.query():
            await asyncio.get_running_loop().run_in_executor(None, self._free.synchronize)
        start = time.perf_counter()
        try:
            await self.store.aread([landing.read for landing in landings])
            failures: dict[int, StoreError] = {}
        except StoreError as error:
            failures = _failures(error, len(pieces))
        return self._finish(pieces, landings, start, failures)

    def _land(self, piece: Piece) -> _Landing:
        layout = self.layout
        header = bytearray(layout.header_bytes) if piece.first == 0 else None
        out = [memoryview(header)] if header is not None else []
        staged = None
        # A checksum needs the bytes of skipped blocks as well, which read straight all end in one scratch block, and
        # needs them on the host.
        if self.staged or (self.verify and (self.cache.memory == "device" or SKIP in self.blocks(piece))):
            staged = staging(piece.count * layout.layer_stride, self.cache.device)
            out.append(memoryview(staged.numpy()))
        else:
            out.extend(self._direct_targets(piece))
        offset = 0 if header is not None else layout.offset(piece.first)
        return _Landing(Read(piece.request.chunks[piece.index], offset, tuple(out)), header, staged)

    def _direct_targets(self, piece: Piece) -> list[memoryview]:
        blocks = self.blocks(piece)
        skips = SKIP in blocks
        padding = self._scratch[: self.layout.padding] if self.layout.padding else None
        out: list[Any] = []
        for layer in range(piece.first, piece.first + piece.count):
            if skips:
                block_bytes = self.cache.geometry.block_bytes
                out.extend(
                    self._scratch[:block_bytes] if block == SKIP else self.cache.targets(layer, [block])[0] for block in blocks
                )
            else:
                out.extend(self.cache.targets(layer, blocks))
            if padding is not None:
                out.append(padding)
        return out

    def _finish(
        self, pieces: Sequence[Piece], landings: Sequence[_Landing], start: float, failures: dict[int, StoreError]
    ) -> list[Piece]:
        read_end = time.perf_counter()
        failed = []
        for position, (piece, landing) in enumerate(zip(pieces, landings, strict=True)):
            if position in failures or not self._accept(piece, landing):
                failed.append(piece)
        first = pieces[0]
        layer = -1 if first.count == self.cache.geometry.layers else first.first
        size = sum(landing.read.length for landing in landings)
        request = first.request.request
        keys = sum(self.store.objects(landing.read) for landing in landings)
        self.recorder.add(Span("fetch", layer, start, read_end, size, keys, request))
        if any(landing.staged is not None for landing in landings):
            self.recorder.add(Span("copy", layer, read_end, time.perf_counter(), size, len(pieces), request))
        return failed

    def _accept(self, piece: Piece, landing: _Landing) -> bool:
        key = piece.request.chunks[piece.index]
        try:
            if landing.header is not None:
                check_header(self.layout, key, landing.header)
            if self.verify:
                self._check_layers(piece, key, landing)
        except StoreError:
            return False
        if landing.staged is not None:
            self._copy(piece, landing.staged)
        return True

    def _check_layers(self, piece: Piece, key: ChunkKey, landing: _Landing) -> None:
        header = landing.header
        if header is None:
            header = bytearray(self.layout.header_bytes)
            self.store.read([Read(key, 0, (memoryview(header),))])
        checksums = check_header(self.layout, key, header)
        width = self.layout.geometry.layer_bytes
        data = landing.read.out[1:] if landing.header is not None else landing.read.out
        for position in range(piece.count):
            if landing.staged is not None:
                begin = position * self.layout.layer_stride
                parts = [memoryview(landing.staged.numpy())[begin : begin + width]]
            else:
                per = len(data) // piece.count
                parts = list(data[position * per : position * per + self.layout.geometry.chunk_blocks])
            check_layer(key, piece.first + position, checksums[piece.first + position], parts)

    def _copy(self, piece: Piece, staged: torch.Tensor) -> None:
        blocks = self.blocks(piece)
        width = self.layout.geometry.layer_bytes
        with torch.cuda.stream(self.stream):  # a no-op where the stream is None
            for position in range(piece.count):
                begin = position * self.layout.layer_stride
                self.cache.scatter(piece.first + position, blocks, staged[begin : begin + width])


def _failures(error: StoreError, count: int) -> dict[int, StoreError]:
    """Why each read of a call of ``count`` failed; all of them, where the store does not say which."""
    return error.failures if isinstance(error, ReadFailures) else dict.fromkeys(range(count), error)
