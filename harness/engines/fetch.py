"""One store call of an engine, from plan to bytes in the paged cache. Shared by all engines.

A piece is a run of layers of one chunk. Where the store fills the memory that the cache is in, blocks are the
targets of the read (no copy); elsewhere pieces land in slots of the rank's ring, and one copy puts a call's into their blocks.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from harness.core.chunks import SKIP, ChunkKey, Layout, LoadRequest, check_header, check_layer
from harness.core.errors import ReadFailures, StoreError
from harness.core.machine import OneProcess
from harness.core.spans import DeviceSpan, Recorder, Span
from harness.engines.device import Event, HostDevice, Numbers, Table
from harness.engines.paged import PagedKV
from harness.engines.ring import Ring
from harness.stores.base import Read, Store

DeadlineMs = Annotated[
    int,
    Field(ge=1, le=3_600_000, description="milliseconds for a load as a whole; what has not arrived by then counts as a miss"),
]
"""The option of every engine that loads."""


_NO_RING = Ring(HostDevice(), 0, 0)  # for reads straight into blocks, which need no host memory


@dataclass(frozen=True, slots=True)
class Piece:
    """Layers ``first`` to ``first + count - 1`` of chunk number ``index`` of a request."""

    request: LoadRequest
    index: int
    first: int
    count: int


@dataclass(slots=True)
class _Landing:
    """Where a piece's bytes arrive: the header if it is part of the read, and a slot of the ring per layer if needed."""

    read: Read
    header: bytearray | None
    slots: Sequence[int]


class Fetcher:
    """Moves pieces. Thread-safe."""

    def __init__(
        self,
        store: Store,
        cache: PagedKV,
        recorder: Recorder,
        *,
        staged: bool,
        verify: bool,
        layers_at_once: int = 1,
        deadline_s: float = math.inf,
    ) -> None:
        """``staged`` forces the general path; ``verify`` checks layers beside headers. ``layers_at_once``: layers of chunks that
        all calls under way may fetch. ``deadline_s``: for all reads of a step, from its beginning; what is late has failed."""
        self.store = store
        self.cache = cache
        self.recorder = recorder
        self.layout = Layout(cache.geometry)
        self.verify = verify
        self.staged = staged or cache.memory not in store.fills
        self._process = OneProcess("an engine")
        self._port = cache.port
        self._stream = cache.port.stream()
        # A store fills a device's memory without regard to the order of its streams, so its reads wait for this on the host.
        self._free: Event | None = None
        self._deadline_s = deadline_s
        self._begun: dict[int, tuple[LoadRequest, float, Numbers]] = {}
        self._scratch: Any = None
        self._headers: deque[bytearray] = deque()
        if self.staged or verify:
            cache.ring(2 * layers_at_once)
        if not self.staged:
            self._scratch = cache.scratch(max(cache.geometry.block_bytes, self.layout.padding, 1))
            if cache.memory == "device":
                store.register(cache.buffers())

    def blocks(self, piece: Piece) -> tuple[int, ...]:
        """The paged blocks of the piece's chunk."""
        per = self.cache.geometry.chunk_blocks
        return piece.request.blocks[piece.index * per : (piece.index + 1) * per]

    def begin_step(self, batch: Sequence[LoadRequest] = (), *, more: bool = False) -> None:
        """Its copies and reads come after all work queued so far, which may read the blocks. ``more``: earlier ones go on.
        Raises SetupError in a fork, where the engine's threads are gone and its forward would wait for ever."""
        self._process.check()
        now = time.monotonic()
        self._begun = self._begun if more else {}
        for item in batch:
            # A request may want it sooner, never later: the forward waits for its load, and others of the step with it.
            until = now + min(item.deadline_ms / 1000 or self._deadline_s, self._deadline_s)
            self._begun[id(item)] = (item, until, self._ids(item))
        forward = self._port.record(self._port.current())
        self._port.wait(self._stream, forward)
        if not self.staged and self.cache.memory == "device":
            self._free = forward

    def end(self, request: LoadRequest) -> None:
        """Forget a load of which nothing is under way any more."""
        self._begun.pop(id(request), None)

    def deadline(self, request: LoadRequest) -> float:
        """When its reads have to be done, by ``time.monotonic``."""
        return self._known(request)[1]

    def _known(self, request: LoadRequest) -> tuple[LoadRequest, float, Numbers]:
        return self._begun.get(id(request)) or (request, math.inf, self._ids(request))

    def copies(self) -> Event:
        """An event after all copies of this fetcher so far."""
        return self._port.record(self._stream)

    def hold_forward(self, event: Event) -> None:
        """What the forward queues from now on comes after ``event``."""
        self._port.wait(self._port.current(), event)

    def fetch(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Read the pieces (of one request) and put them in place, in one store call, or several where the ring is too small;
        returns those that failed."""
        return [failed for part in self._parts(pieces) for failed in self._fetch(part)]

    async def afetch(self, pieces: Sequence[Piece]) -> list[Piece]:
        """``fetch`` for an event loop, through the store's ``aread``."""
        return [failed for part in self._parts(pieces) for failed in await self._afetch(part)]

    def _fetch(self, pieces: Sequence[Piece]) -> list[Piece]:
        need = self._slots_for(pieces)
        ring = self.cache.ring() if need else _NO_RING
        slots = ring.take(need) if need else []
        try:
            landings = self._land(pieces, ring, slots)
            if self._free is not None:
                self._free.synchronize()
            start = time.perf_counter()
            try:
                self.store.read([landing.read for landing in landings])
                failures: dict[int, StoreError] = {}
            except StoreError as error:
                failures = _failures(error, len(pieces))
            return self._finish(pieces, landings, ring, start, failures)
        finally:
            ring.give(slots, self.copies() if slots else None)

    async def _afetch(self, pieces: Sequence[Piece]) -> list[Piece]:
        run = asyncio.get_running_loop().run_in_executor
        need = self._slots_for(pieces)
        ring = self.cache.ring() if need else _NO_RING
        now = ring.take_now(need) if need else []
        slots = now if now is not None else await run(None, ring.take, need)
        try:
            landings = self._land(pieces, ring, slots)
            if self._free is not None and not self._free.query():
                await run(None, self._free.synchronize)
            start = time.perf_counter()
            try:
                await self.store.aread([landing.read for landing in landings])
                failures: dict[int, StoreError] = {}
            except StoreError as error:
                failures = _failures(error, len(pieces))
            return self._finish(pieces, landings, ring, start, failures)
        finally:
            ring.give(slots, self.copies() if slots else None)

    def _parts(self, pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
        size = max(1, self.cache.ring().count // pieces[0].count) if self._slots_for(pieces) else len(pieces)
        for start in range(0, len(pieces), size):
            yield pieces[start : start + size]

    def _slots_for(self, pieces: Sequence[Piece]) -> int:
        if not (self.staged or self.verify):
            return 0
        return sum(piece.count for piece in pieces if self._is_staged(piece))

    def _is_staged(self, piece: Piece) -> bool:
        # A checksum needs the bytes of skipped blocks as well, which read straight all end in one scratch block, and
        # needs them on the host.
        return self.staged or (self.verify and (self.cache.memory == "device" or SKIP in self.blocks(piece)))

    def _land(self, pieces: Sequence[Piece], ring: Ring, slots: Sequence[int]) -> list[_Landing]:
        """Where each piece goes; ``slots`` are as many as the staged ones have layers."""
        landings, taken = [], 0
        for piece in pieces:
            header = self._header() if piece.first == 0 else None
            out = [memoryview(header)] if header is not None else []
            own: Sequence[int] = ()
            if slots and self._is_staged(piece):
                own = slots[taken : taken + piece.count]
                taken += piece.count
                out.extend([ring.views[slot] for slot in own])
            else:
                out.extend(self._direct_targets(piece))
            offset = 0 if header is not None else self.layout.offset(piece.first)
            read = Read(piece.request.chunks[piece.index], offset, tuple(out), self.deadline(piece.request))
            landings.append(_Landing(read, header, own))
        return landings

    def _direct_targets(self, piece: Piece) -> list[memoryview]:
        blocks = self.blocks(piece)
        skips = SKIP in blocks
        padding = self._scratch[: self.layout.padding] if self.layout.padding else None
        nowhere = self._scratch[: self.cache.geometry.block_bytes]
        out: list[Any] = []
        for layer in range(piece.first, piece.first + piece.count):
            if skips:
                out.extend(nowhere if block == SKIP else self.cache.targets(layer, [block])[0] for block in blocks)
            else:
                out.extend(self.cache.targets(layer, blocks))
            if padding is not None:
                out.append(padding)
        return out

    def _header(self) -> bytearray:
        try:
            return self._headers.pop()
        except IndexError:
            return bytearray(self.layout.header_bytes)

    def _finish(
        self, pieces: Sequence[Piece], landings: Sequence[_Landing], ring: Ring, start: float, failures: dict[int, StoreError]
    ) -> list[Piece]:
        read_end = time.perf_counter()
        pairs = list(zip(pieces, landings, strict=True))
        good = [number not in failures and self._is_right(*pair, ring) for number, pair in enumerate(pairs)]
        staged = [pair for pair, right in zip(pairs, good, strict=True) if right and pair[1].slots]
        timed = staged and self.cache.memory == "device" and self.recorder.enabled
        before = self._port.mark(self._stream) if timed else None
        if staged:
            self._copy(staged, ring)
        first, request = pieces[0], pieces[0].request.request
        layer = -1 if first.count == self.cache.geometry.layers else first.first
        size = sum(landing.read.length for landing in landings)
        keys = sum(self.store.objects(landing.read) for landing in landings)
        self.recorder.add(Span("fetch", layer, start, read_end, size, keys, request))
        if before is not None:
            self.recorder.add_device(DeviceSpan("copy", layer, before, self._port.mark(self._stream), size, len(pieces), request))
        elif any(landing.slots for landing in landings):
            self.recorder.add(Span("copy", layer, read_end, time.perf_counter(), size, len(pieces), request))
        self._headers.extend(landing.header for landing in landings if landing.header is not None)
        return [piece for piece, right in zip(pieces, good, strict=True) if not right]

    def _is_right(self, piece: Piece, landing: _Landing, ring: Ring) -> bool:
        key = piece.request.chunks[piece.index]
        try:
            if landing.header is not None:
                check_header(self.layout, key, landing.header)
            if self.verify:
                self._check_layers(piece, key, landing, ring)
        except StoreError:
            return False
        return True

    def _check_layers(self, piece: Piece, key: ChunkKey, landing: _Landing, ring: Ring) -> None:
        header = landing.header
        if header is None:
            header = bytearray(self.layout.header_bytes)
            self.store.read([Read(key, 0, (memoryview(header),), self.deadline(piece.request))])
        checksums = check_header(self.layout, key, header)
        geometry = self.layout.geometry
        data = landing.read.out[1:] if landing.header is not None else landing.read.out
        for position in range(piece.count):
            if landing.slots:
                parts = [ring.views[landing.slots[position]][: geometry.layer_bytes]]
            else:
                per = len(data) // piece.count
                parts = list(data[position * per : position * per + geometry.chunk_blocks])
            check_layer(key, piece.first + position, checksums[piece.first + position], parts)

    def _copy(self, staged: Sequence[tuple[Piece, _Landing]], ring: Ring) -> None:
        """One copy for all of a call."""
        blocks = self._known(staged[0][0].request)[2]
        counts = [piece.count for piece, _ in staged]
        slots = np.array([slot for _, landing in staged for slot in landing.slots], np.int64)
        layers = np.array([layer for piece, _ in staged for layer in range(piece.first, piece.first + piece.count)], np.int64)
        chunks = np.array([piece.index for piece, _ in staged]).repeat(counts)
        self.cache.copy_in(Table(ring.memory, slots * ring.slot_bytes, layers, blocks[chunks]), self._stream)

    def _ids(self, request: LoadRequest) -> Numbers:
        """Blocks of a request, a row per chunk."""
        return np.array(request.blocks, np.int64).reshape(-1, self.cache.geometry.chunk_blocks)


def _failures(error: StoreError, count: int) -> dict[int, StoreError]:
    """Why each read of a call of ``count`` failed; all of them, where the store does not say which."""
    return error.failures if isinstance(error, ReadFailures) else dict.fromkeys(range(count), error)
