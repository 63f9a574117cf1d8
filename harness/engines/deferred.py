"""Loads between steps: a request joins vLLM's batch once its KV is there, and nobody's forward waits for it meanwhile.

Within a step the loads of one request hold up every request of the step. Here vLLM reserves the blocks, other requests go on,
and the request is released when its first ``release`` layers are in place; what is left then arrives beside its forward.
"""

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Collection, Sequence

from harness.core.chunks import SKIP, LoadRequest
from harness.core.errors import UsageError
from harness.core.recurrence import groups_of
from harness.core.spans import Recorder, Span
from harness.engines.base import BetweenSteps, Choice, EngineOptions, Offer, Released
from harness.engines.deferred_options import DeferredOptions
from harness.engines.fetch import Fetcher, Piece
from harness.engines.paged import PagedKV
from harness.engines.queued import ORDERS, Call, Load
from harness.engines.readers import CallNumbers, LoopReaders, ThreadReaders
from harness.engines.reuse import Reuse, Source
from harness.stores.base import Store

logger = logging.getLogger("vllm.ttft")

BROKE = "a call of the deferred engine broke; its chunks count as failed"


class Deferred(BetweenSteps):
    """Loads between steps: a request joins vLLM's batch when its first layers, or all, are in place."""

    name = "deferred"
    Options = DeferredOptions
    blocks_in_begin = False

    @classmethod
    def choose(cls, options: EngineOptions, offer: Offer) -> Choice:
        """All of the hit, between steps."""
        return Choice(offer.chunks, between_steps=True)

    def __init__(self, store: Store, cache: PagedKV, options: DeferredOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        layers = cache.geometry.layers
        first = options.release if isinstance(options.release, int) else layers
        if first > layers:
            raise UsageError(f"release={first} is more than the model's {layers} layers; use release=all")
        self._sizes = groups_of(options.groups or str(first), layers)
        self._firsts = [sum(self._sizes[:group]) for group in range(len(self._sizes))]
        self._group_of = [group for group, size in enumerate(self._sizes) for _ in range(size)]
        self._gate = bisect_left(self._firsts, first)
        self._batch = options.batch
        self._order = ORDERS[options.order]
        self._fetcher = Fetcher(
            store,
            cache,
            recorder,
            staged=options.staged,
            verify=options.verify,
            layers_at_once=options.readers * options.batch * max(self._sizes),
            deadline_s=options.deadline_ms / 1000,
        )
        self._reuse = Reuse(cache) if options.reuse and cache.direct else None
        self._loads: list[Load] = []
        self._count = self._permits = 0
        self._numbers = CallNumbers()
        self._changed = threading.Condition()
        self._readers: ThreadReaders | LoopReaders
        if options.loops:
            self._readers = LoopReaders(options.readers, options.loops, self._numbers, self._acarry_out)
        else:
            self._readers = ThreadReaders(options.readers, self._numbers, self._carry_out)

    # -- called by the forward's thread -------------------------------------------------------------

    def begin_between(self, batch: Sequence[LoadRequest]) -> None:
        """Queue the requests' calls."""
        self._begin(batch, joined=False)

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """For requests of the coming step, as ``layerwise`` does."""
        self._begin(batch, joined=True)

    def _begin(self, batch: Sequence[LoadRequest], joined: bool) -> None:
        if not batch:
            return
        self._fetcher.begin_step(batch, more=True)
        groups = len(self._sizes)
        with self._changed:
            for request in batch:
                chunks = len(request.chunks)
                calls = [(start, min(start + self._batch, chunks)) for start in range(0, chunks, self._batch)]
                until = self._fetcher.deadline(request)
                unread = chunks * self.cache.geometry.layers
                load = Load(request, self._count, until, calls, unread, [len(calls)] * groups, [None] * groups)
                load.joined = load.told = joined
                self._loads.append(load)
                self._count += 1
                self._permits += load.left
        self._numbers.allow(self._permits)

    def released(self) -> Sequence[Released]:
        """Those whose first layers are in place, and those of which nothing more will come."""
        found: list[Released] = []
        with self._changed:
            for load in [load for load in self._loads if not load.joined]:
                early = not (load.failed or load.dropped or any(load.remaining[: self._gate]))
                if not load.told and (early or load.over):
                    load.told = True
                    if load.failed or load.dropped:  # vLLM may give its blocks away now
                        self._keep(load)
                        self._fetcher.hold_forward(self._fetcher.copies())
                    failed = self._take_failed(load)
                    found.append(Released(load.request.request, frozenset() if load.dropped else failed))
                if load.dropped and load.told and load.over:
                    self._forget(load)
        return found

    def join(self, requests: Collection[str]) -> None:
        """From now on their layers are waited for."""
        with self._changed:
            for load in self._loads:
                if load.request.request in requests and not load.dropped:
                    load.joined = True

    def drop(self, requests: Collection[str]) -> None:
        """Calls under way go on; settle waits for them."""
        with self._changed:
            for load in self._loads:
                if load.request.request in requests and not load.joined:
                    load.dropped = True
                    self._keep(load)
            self._changed.notify_all()

    def settle(self, blocks: Collection[int]) -> None:
        """Wait for the loads that write to one of them."""
        if not self._loads or not blocks:
            return
        wanted = set(blocks)
        with self._changed:
            touched = [load for load in self._loads if not wanted.isdisjoint(load.request.blocks)]
            for load in touched:
                self._keep(load)
            self._changed.wait_for(lambda: all(load.over for load in touched))
        if touched:
            self._fetcher.hold_forward(self._fetcher.copies())

    def wait_layer(self, layer: int) -> None:
        """Until this layer of every request of the step is in place."""
        joined = [load for load in self._loads if load.joined]
        group = self._group_of[layer]
        if any(load.remaining[group] for load in joined):
            start = time.perf_counter()
            with self._changed:
                self._changed.wait_for(lambda: not any(load.remaining[group] for load in joined))
            self.recorder.add(Span("wait", layer, start, time.perf_counter()))
        if layer == self._firsts[group]:
            for load in joined:
                if (event := load.events[group]) is not None:
                    self._fetcher.hold_forward(event)

    def end_load(self) -> frozenset[int]:
        """Wait for what is left of the requests of this step; the blocks of their chunks that failed."""
        joined = [load for load in self._loads if load.joined]
        if not joined:
            return frozenset()
        for layer in self._firsts:
            self.wait_layer(layer)
        self._fetcher.hold_forward(self._fetcher.copies())
        with self._changed:
            for load in joined:
                self._keep(load)
            self._changed.wait_for(lambda: all(load.over for load in joined))
            failed = [self._take_failed(load) for load in joined]
            for load in joined:
                self._forget(load)
        return frozenset().union(*failed)

    def _keep(self, load: Load) -> None:
        """Nobody begins to copy from its blocks any more: they are about to be others', or to be computed."""
        if self._reuse is not None:
            self._reuse.forget(load)

    def _take_failed(self, load: Load) -> frozenset[int]:
        pieces = [Piece(load.request, index, 0, 1) for index in load.failed]
        load.failed.clear()
        return frozenset(block for piece in pieces for block in self._fetcher.blocks(piece) if block != SKIP)

    def _forget(self, load: Load) -> None:
        self._loads.remove(load)
        self._fetcher.end(load.request)

    def close(self) -> None:
        """End the readers after their current calls."""
        with self._changed:
            for load in self._loads:
                load.dropped = True
            self._changed.notify_all()
        self._readers.close()

    # -- readers --------------------------------------------------------------------------------------

    def _carry_out(self, _: int) -> None:
        call = self._take()
        if call is None or (self._reuse is not None and call.pieces and self._is_reused(self._reuse, call)):
            return
        self._read(call)

    def _read(self, call: Call) -> Sequence[Piece]:
        failed: Sequence[Piece] = call.pieces
        try:
            failed = self._fetcher.fetch(call.pieces) if call.pieces else []
        except BaseException:  # a dead reader would hang the forward
            logger.exception(BROKE)
        self._done(call, failed)
        return failed

    async def _acarry_out(self, _: int) -> None:
        if (call := self._take()) is not None:
            failed: Sequence[Piece] = call.pieces
            try:
                failed = await self._fetcher.afetch(call.pieces) if call.pieces else []
            except BaseException:  # as above
                logger.exception(BROKE)
            self._done(call, failed)

    def _is_reused(self, reuse: Reuse, call: Call) -> bool:
        """Copy the call's piece, or let who reads it do that; where nobody does read it, and copy it for those that came."""
        [piece] = call.pieces
        with self._changed:
            source = reuse.of(piece)
            if source is None:
                own = reuse.begin(call.load, piece)
                call.load.busy += 1  # until those that came are known
            elif source.in_place:
                source.load.busy += 1
            else:
                source.followers.append(call)
                return True
        if source is not None:
            self._copy(reuse, source, call)
            return True
        failed = self._read(call)
        with self._changed:
            followers = reuse.arrived(own, not failed)
            call.load.busy -= 1
            self._changed.notify_all()
        for follower in followers:
            if failed:
                self._read(follower)
            else:
                self._copy(reuse, own, follower)
        return True

    def _copy(self, reuse: Reuse, source: Source, call: Call) -> None:
        start, failed = time.perf_counter(), call.pieces
        try:
            size = reuse.copy(source, call.pieces[0])
            failed = []
            layer = -1 if len(self._sizes) == 1 else call.pieces[0].first
            self.recorder.add(Span("copy", layer, start, time.perf_counter(), size, 1, call.load.request.request))
        except BaseException:  # as above
            logger.exception(BROKE)
        with self._changed:
            source.load.busy -= 1
        self._done(call, failed)

    def _take(self) -> Call | None:
        """The next call; None where its load was dropped meanwhile. There are never more calls than numbers."""
        with self._changed:
            waiting = [load for load in self._loads if load.left]
            if not waiting:
                return None
            # Who can copy from others' blocks does it now, since these may leave.
            copied = {load for load in waiting if self._reuse is not None and self._reuse.of(self._next(load))}
            load = min(waiting, key=lambda one: (one not in copied, not one.joined, not one.told, self._order(one), one.number))
            group, position = divmod(load.begun, len(load.calls))
            start, stop = load.calls[position]
            load.begun += 1
            load.busy += 1
            load.unread -= (stop - start) * self._sizes[group]
            wanted = [index for index in range(start, stop) if index not in load.failed]
        return Call(load, group, [Piece(load.request, index, self._firsts[group], self._sizes[group]) for index in wanted])

    def _next(self, load: Load) -> Piece:
        group, position = divmod(load.begun, len(load.calls))
        return Piece(load.request, load.calls[position][0], self._firsts[group], self._sizes[group])

    def _done(self, call: Call, failed: Sequence[Piece]) -> None:
        load, group = call.load, call.group
        with self._changed:
            load.failed.update(piece.index for piece in failed)
            if load.remaining[group] == 1:  # before the countdown, which the forward reads without the lock
                load.events[group] = self._fetcher.copies()
            load.remaining[group] -= 1
            load.busy -= 1
            self._changed.notify_all()
