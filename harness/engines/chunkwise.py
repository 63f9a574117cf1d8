"""Blocking retrieval of whole chunks before the forward: what LMCache's ordinary engine does.

``pool`` is the setting the discussion is about: how many gets are under way at once.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Annotated, Literal

from pydantic import Field

from harness.core.chunks import SKIP, LoadRequest
from harness.core.spans import Recorder, Span
from harness.engines.base import Engine, EngineOptions
from harness.engines.fetch import DeadlineMs, Fetcher, Piece
from harness.engines.paged import PagedKV
from harness.engines.readers import close_pool, started_pool
from harness.stores.base import Store

PoolSize = Annotated[int, Field(ge=0, le=1024)] | Literal["default"]


class ChunkwiseOptions(EngineOptions):
    """Settings of the chunkwise engine."""

    pool: PoolSize = Field(
        0,
        description="gets under way at once: 0 = one after the other in the calling thread, N = N threads of its own, "
        "'default' = Python's default executor, min(32, cores + 4) threads",
    )
    batch: int = Field(1, ge=1, le=4096, description="chunks a store call")
    staged: bool = Field(False, description="read into staging memory and copy, even where blocks could be read into directly")
    verify: bool = Field(False, description="check the checksum of every layer, not only the header")
    deadline_ms: DeadlineMs = 30_000


class Chunkwise(Engine):
    """Fetches all chunks of a hit before the forward begins; nothing waits later."""

    name = "chunkwise"
    Options = ChunkwiseOptions

    def __init__(self, store: Store, cache: PagedKV, options: ChunkwiseOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        self._batch = options.batch
        self._executor: ThreadPoolExecutor | None = None
        threads = min(32, (os.cpu_count() or 1) + 4) if options.pool == "default" else options.pool
        if threads:
            self._executor = started_pool(threads, "chunkwise")
        self._fetcher = Fetcher(
            store,
            cache,
            recorder,
            staged=options.staged,
            verify=options.verify,
            layers_at_once=cache.geometry.layers * options.batch * max(threads, 1),
            deadline_s=options.deadline_ms / 1000,
        )
        self._failed: set[int] = set()

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """Fetch everything; the time this takes is the step's stall."""
        start = time.perf_counter()
        self._fetcher.begin_step(batch)
        calls = [call for request in batch for call in self._calls(request)]
        self._failed.clear()
        for failed in self._fetch(calls):
            for piece in failed:
                self._failed.update(block for block in self._fetcher.blocks(piece) if block != SKIP)
        self._fetcher.hold_forward(self._fetcher.copies())
        self.recorder.add(Span("wait", -1, start, time.perf_counter()))

    def _fetch(self, calls: Sequence[list[Piece]]) -> list[list[Piece]]:
        """Carry out all calls; the pieces of each that failed."""
        if self._executor is None:
            return [self._fetcher.fetch(call) for call in calls]
        futures = [self._executor.submit(self._fetcher.fetch, call) for call in calls]
        wait(futures)  # all, so that where one breaks no other still writes to blocks after that
        return [future.result() for future in futures]

    def _calls(self, request: LoadRequest) -> list[list[Piece]]:
        layers = self.cache.geometry.layers
        pieces = [Piece(request, index, 0, layers) for index in range(len(request.chunks))]
        return [pieces[i : i + self._batch] for i in range(0, len(pieces), self._batch)]

    def wait_layer(self, layer: int) -> None:
        """Nothing to wait for."""

    def end_load(self) -> frozenset[int]:
        """The blocks of the chunks that failed."""
        failed, self._failed = frozenset(self._failed), set()
        return failed

    def close(self) -> None:
        """Stop the pool."""
        if self._executor is not None:
            close_pool(self._executor)
