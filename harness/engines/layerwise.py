"""Asynchronous fetches layer by layer, ahead of the compute: load of layer i + 1 hides behind layer i.

The fetches of the first ``depth`` layers start before the forward; each time the forward reaches a
layer, those of one more may start (harness/core/recurrence.py has the recurrence that this realises).
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from harness.core.chunks import SKIP, LoadRequest
from harness.core.recurrence import as_text, groups_of
from harness.core.spans import Recorder, Span
from harness.engines.base import Choice, Engine, EngineOptions, Offer, Seen
from harness.engines.costs import fitted
from harness.engines.device import Event
from harness.engines.fetch import DeadlineMs, Fetcher, Piece
from harness.engines.groups import AUTO, check_groups, chosen_groups, doubling, groups_by
from harness.engines.paged import PagedKV
from harness.engines.readers import CallNumbers, LoopReaders, ThreadReaders
from harness.engines.watch import Watch, how_of
from harness.stores.base import Store

UNLIMITED = 4096
"""A depth that no model's layers exceed."""

NOTHING_KNOWN = "nothing is known yet; groups of different sizes show what a read takes"


class ReadingOptions(EngineOptions):
    """How the reads of an engine that loads beside the forward are carried out."""

    readers: int = Field(8, ge=1, le=1024, description="store calls under way at once")
    loops: int = Field(0, ge=0, le=64, description="0 = readers are threads with blocking reads; N = N event loops share them")
    batch: int = Field(1, ge=1, le=4096, description="chunks a store call")
    staged: bool = Field(False, description="read into staging memory and copy, even where blocks could be read into directly")
    verify: bool = Field(False, description="check the checksum of every layer, not only the header")
    deadline_ms: DeadlineMs = 30_000

    @model_validator(mode="after")
    def _loops_have_work(self) -> "ReadingOptions":
        if self.loops > self.readers:
            raise ValueError(f"loops={self.loops} is more than readers={self.readers}; give each loop at least one reader")
        return self


class LayerwiseOptions(ReadingOptions):
    """Settings of the layerwise engine."""

    renamed = {"layers_per_fetch": "groups"}

    depth: int = Field(4, ge=1, le=4096, description="layers in flight or in place ahead of the layer that is computed")
    groups: Annotated[str, AfterValidator(check_groups)] = Field(
        "1",
        description="neighbouring layers of a chunk that one read fetches: 6 = groups of 6, sizes such as 1+5+6+6+6, or 'auto' = "
        "by the round trip, the bandwidth and the compute that the last loads showed",
    )


class Layerwise(Engine):
    """Fetches layer after layer, ``depth`` layers ahead of the forward, which waits only for what has not arrived."""

    name = "layerwise"
    Options: ClassVar[type[EngineOptions]] = LayerwiseOptions
    blocks_in_begin = False

    @classmethod
    def choose(cls, options: EngineOptions, offer: Offer) -> Choice:
        """All of it; with ``groups=auto`` in those that are best by what was seen."""
        assert isinstance(options, LayerwiseOptions)
        return in_groups(Choice(offer.chunks), cls.name, options, offer)

    @classmethod
    def learns(cls, options: EngineOptions) -> int:
        """One load, with ``groups=auto``."""
        return int(isinstance(options, LayerwiseOptions) and options.groups == AUTO)

    def __init__(self, store: Store, cache: PagedKV, options: ReadingOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        layers = cache.geometry.layers
        own = (options.depth, options.groups) if isinstance(options, LayerwiseOptions) else (UNLIMITED, AUTO)
        self._depth, self._batch = own[0], options.batch
        self._chosen = own[1] == AUTO
        self._divide(doubling(layers) if self._chosen else groups_of(own[1], layers))
        widest = layers if self._chosen else max(self._sizes)
        self._watch = Watch() if self._chosen or self.learns(options) else None
        self._fetcher = Fetcher(
            store,
            cache,
            recorder,
            staged=options.staged,
            verify=options.verify,
            layers_at_once=options.readers * options.batch * widest,
            deadline_s=options.deadline_ms / 1000,
        )
        self._calls: list[tuple[LoadRequest, int, int]] = []
        self._remaining: list[int] = []
        self._events: list[Event | None] = []
        self._failed: set[tuple[LoadRequest, int]] = set()
        self._crash: BaseException | None = None
        self._numbers = CallNumbers()
        self._arrived = threading.Condition()
        self._readers: ThreadReaders | LoopReaders
        if options.loops:
            self._readers = LoopReaders(options.readers, options.loops, self._numbers, self._acarry_out)
        else:
            self._readers = ThreadReaders(options.readers, self._numbers, self._carry_out)

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """Let the readers start on the first ``depth`` layers and return."""
        self._finish_calls()  # of a step whose forward broke off
        self._crash = None
        self._calls = [
            (request, start, min(start + self._batch, len(request.chunks)))
            for request in batch
            for start in range(0, len(request.chunks), self._batch)
        ]
        if self._chosen:
            self._divide(groups_by(how_of(batch), self.cache.geometry.layers))
        self._remaining = [len(self._calls)] * len(self._sizes)
        self._events = [None] * len(self._sizes)
        self._failed.clear()
        self._fetcher.begin_step(batch)
        if self._watch is not None:
            self._watch.begin(batch, self._sizes)
        self._numbers.restart(self._limit(0))

    def _divide(self, sizes: Sequence[int]) -> None:
        """Fetch groups of these sizes from now on."""
        self._sizes = tuple(sizes)
        self._firsts = [sum(self._sizes[:group]) for group in range(len(self._sizes))]
        self._group_of = [group for group, size in enumerate(self._sizes) for _ in range(size)]

    def _limit(self, layer: int) -> int:
        """Calls that may have started once ``layer`` is about to be computed: of groups that begin below layer + depth."""
        return bisect_left(self._firsts, layer + self._depth) * len(self._calls)

    def _pieces(self, number: int) -> tuple[int, list[Piece]]:
        group, position = divmod(number, len(self._calls))
        request, start, stop = self._calls[position]
        first, count = self._firsts[group], self._sizes[group]
        failed = self._failed  # asked first, since hashing a request takes microseconds
        wanted = [index for index in range(start, stop) if not failed or (request, index) not in failed]
        return group, [Piece(request, index, first, count) for index in wanted]

    def _carry_out(self, number: int) -> None:
        group, pieces = self._pieces(number)
        start = time.perf_counter()
        try:
            self._done(group, self._fetcher.fetch(pieces) if pieces else [], len(pieces), start)
        except BaseException as error:  # noqa: BLE001  a dead reader would hang the forward: hand it over
            self._abort(group, pieces, error)

    async def _acarry_out(self, number: int) -> None:
        group, pieces = self._pieces(number)
        start = time.perf_counter()
        try:
            self._done(group, await self._fetcher.afetch(pieces) if pieces else [], len(pieces), start)
        except BaseException as error:  # noqa: BLE001  as above
            self._abort(group, pieces, error)

    def _abort(self, group: int, pieces: Sequence[Piece], error: BaseException) -> None:
        self._crash = error
        self._count_down(group, pieces)

    def _done(self, group: int, failed: Sequence[Piece], chunks: int, start: float) -> None:
        if self._watch is not None and chunks and not failed:
            self._watch.call(chunks * self._sizes[group] * self._fetcher.layout.layer_stride, start, time.perf_counter())
        with self._arrived:
            # Before the countdown, which the forward reads without the lock.
            if self._remaining[group] == 1:
                self._events[group] = self._fetcher.copies()
            self._count_down(group, failed)

    def _count_down(self, group: int, failed: Sequence[Piece]) -> None:
        with self._arrived:
            self._failed.update((piece.request, piece.index) for piece in failed)
            self._remaining[group] -= 1
            if self._remaining[group] == 0:
                self._arrived.notify_all()

    def wait_layer(self, layer: int) -> None:
        """Allow one more layer to start, then wait for this one."""
        if not self._calls:
            return
        self._numbers.allow(self._limit(layer))
        group = self._group_of[layer]
        self._wait_group(group, layer)
        self._raise_crash()
        event = self._events[group]
        if event is not None and layer == self._firsts[group]:
            self._fetcher.hold_forward(event)

    def _wait_group(self, group: int, layer: int) -> None:
        if self._remaining[group]:
            start = time.perf_counter()
            with self._arrived:
                while self._remaining[group]:
                    self._arrived.wait()
            end = time.perf_counter()
            if self._watch is not None:
                self._watch.waited_s += end - start
            self.recorder.add(Span("wait", layer, start, end))

    def _raise_crash(self) -> None:
        """What broke a reader, unless it was raised before; the blocks it was to fill count as failed."""
        crash, self._crash = self._crash, None
        if crash is not None:
            raise crash

    def end_load(self) -> frozenset[int]:
        """Wait for what is still under way; the blocks of chunks that failed in any layer."""
        if not self._calls:
            return frozenset()
        self._finish_calls()
        if self._watch is not None:
            self._watch.end(time.perf_counter(), self.cache.memory == "host")
        self._fetcher.hold_forward(self._fetcher.copies())
        self._raise_crash()
        return frozenset(
            block
            for request, index in self._failed
            for block in self._fetcher.blocks(Piece(request, index, 0, 1))
            if block != SKIP
        )

    def saw(self) -> Seen | None:
        """What the load took, where the engine chooses by that; told once."""
        if self._watch is None:
            return None
        seen, self._watch.seen = self._watch.seen, None
        return seen

    def _finish_calls(self) -> None:
        if not self._calls:
            return
        self._numbers.allow(self._limit(self.cache.geometry.layers))
        for group, first in enumerate(self._firsts):
            self._wait_group(group, first)
        self._calls = []

    def close(self) -> None:
        """End the readers."""
        self._readers.close()


def in_groups(choice: Choice, engine: str, options: LayerwiseOptions, offer: Offer) -> Choice:
    """The choice with groups beside it, where ``groups=auto`` leaves them to what was seen."""
    if options.groups != AUTO or not offer.layers or not choice.chunks:
        return choice
    costs = fitted(offer.seen)
    groups: Sequence[int] = doubling(offer.layers)
    if costs is not None:
        step = costs.step(offer, choice.chunks)
        groups = chosen_groups(costs.link, step, options.readers, options.depth, options.batch)
    own = f"{choice.how}," if choice.how else f"{engine}:"
    how = f"{own}depth={min(options.depth, offer.layers)},readers={options.readers},groups={as_text(groups)}"
    return replace(choice, how=how, why=choice.why or (costs.in_words if costs else NOTHING_KNOWN))
