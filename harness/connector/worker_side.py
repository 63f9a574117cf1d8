"""The half of the connector that lives with a worker: loads before the forward, saves and proofs after it."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.connector.load_record import Outside, StepSpans, load_record, lookup_record
from harness.connector.saving import Saver
from harness.connector.settings import Arm
from harness.connector.step import Load, Step
from harness.core.chunks import SKIP, LoadRequest, checksum_parts, for_rank
from harness.core.spans import DeviceSpan, Recorder, Span, SpanLog
from harness.engines.base import BetweenSteps, Engine, Seen
from harness.engines.device import DeviceClock, Mark
from harness.engines.paged import PagedKV
from harness.stores.base import Buffer, Store

logger = logging.getLogger("vllm.ttft")


class WorkerSide:
    """Moves KV for one rank. All calls come from the thread that runs the forward."""

    def __init__(
        self,
        arms: Mapping[str, Arm],
        store: Store,
        cache: PagedKV,
        span_log: SpanLog,
        rank: int,
        world: int,
        on_any_rank: Callable[[bool], bool] = bool,
        save_threads: int = 0,
    ) -> None:
        """``on_any_rank``: true where any rank gives true. All ranks call it in the same steps, as it waits for the others.
        ``save_threads``: 0 saves within the step."""
        self._store = store
        self._cache = cache
        self._span_log = span_log
        self._logging = threading.Lock()
        self._rank, self._world = rank, world
        self._on_any_rank = on_any_rank
        self._recorder = Recorder(enabled=span_log.enabled)
        self._engines = {name: arm.engine(store, cache, arm.options, self._recorder) for name, arm in arms.items()}
        self._between = [engine for engine in self._engines.values() if isinstance(engine, BetweenSteps)]
        self._outside: dict[str, Outside] = {}
        self._saver = Saver(store, cache, rank, world, self._write, save_threads)
        self._active: list[Engine] = []
        self._tokens = 0
        self._saw: dict[str, Seen] = {}
        self._loads: list[Load] = []
        self._invalid: set[int] = set()
        self._failed = False
        self._forward_start = 0.0
        self._on_device = cache.memory == "device"
        self._clock: DeviceClock | None = None
        self._forward_begin: Mark = None
        self._pending: dict[str, tuple[Load, StepSpans, set[int]]] = {}

    def before(self, step: Step) -> None:
        """Before a forward, or where there is none: begin loads between steps, and take in those whose requests compute now."""
        for engine in self._between:
            if step.drops:
                engine.drop(step.drops)
        for request_id in step.drops:
            if dropped := self._outside.get(request_id):
                self._write_outside(dropped, frozenset())
                del self._outside[request_id]
        self.release(step.fresh)
        for arm, begins in _by_arm(map(self._of_rank, step.begins)).items():
            self._outside |= {load.request.request: Outside(load) for load in begins}
            self._loading_between(arm).begin_between([load.request for load in begins])
        joined = [self._outside[request_id] for request_id in step.joins if request_id in self._outside]
        self._begin_step(step, [outside.load for outside in joined if not outside.written])
        for arm, joins in _by_arm(outside.load for outside in joined).items():
            engine = self._loading_between(arm)
            engine.join([load.request.request for load in joins])
            self._active.append(engine)
        for outside in joined:
            if outside.written:
                del self._outside[outside.load.request.request]

    def release(self, blocks: Sequence[int]) -> None:
        """These blocks are new to their requests, and are about to be written. Waits for saves and loads that use one."""
        self._saver.release(blocks)
        for engine in self._between:
            engine.settle(blocks)

    def _loading_between(self, arm: str) -> BetweenSteps:
        engine = self._engines[arm]
        assert isinstance(engine, BetweenSteps)  # or the scheduler's side would not have planned it
        return engine

    def _begin_step(self, step: Step, loads: Sequence[Load]) -> None:
        self._failed, self._tokens = False, step.tokens
        self._loads = list(loads)
        self._clock = DeviceClock(self._cache.port) if loads and self._on_device and self._span_log.enabled else None
        self._forward_start, self._forward_begin = time.perf_counter(), self._mark()

    def _mark(self) -> Mark:
        """Where the device's forward is to be timed, else None."""
        return None if self._clock is None else self._cache.port.mark(self._cache.port.current())

    def _note_stall(self, layer: int, before: Mark) -> None:
        """On a device, the time since ``before`` in which it did nothing for want of ``layer``, or as the host queued nothing.

        The host's own waits say little there: it runs ahead of the device.
        """
        if before is not None:
            self._recorder.add_device(DeviceSpan("wait", layer, before, self._mark()))

    def start_load(self, step: Step) -> None:
        """Begin the step's loads, the engines that return at once first."""
        if not step.loads:
            return
        loads = [self._of_rank(load) for load in step.loads]
        self._begin_step(step, [*self._loads, *loads])
        by_arm, before = _by_arm(loads), self._mark()
        # Layerwise only starts its fetches, chunkwise blocks: in this order they overlap within a step.
        for arm in sorted(by_arm, key=lambda name: self._engines[name].blocks_in_begin):
            engine = self._engines[arm]
            engine.begin_load([load.request for load in by_arm[arm]])
            if engine not in self._active:
                self._active.append(engine)
        self._note_stall(-1, before)
        self._forward_start, self._forward_begin = time.perf_counter(), self._mark()

    def _of_rank(self, load: Load) -> Load:
        if self._world == 1:
            return load
        request = load.request
        keys = tuple(for_rank(key, self._rank, self._world) for key in request.chunks)
        return Load(load.arm, replace(request, chunks=keys), load.label)

    def wait_layer(self, layer: int) -> None:
        """Before the attention of ``layer``."""
        if not self._active:
            return
        before = self._mark()
        for engine in self._active:
            engine.wait_layer(layer)
        self._note_stall(layer, before)

    def finish(self, step: Step) -> None:
        """After the forward: failures, saves, then the span log and the proofs of requests of earlier steps."""
        self.end_loads()
        # After a failure nothing is saved: this step computed on blocks that were never filled, and through
        # vLLM's own prefix cache other requests than the one that failed may have used them too. On other ranks as
        # well: each layer adds up what all of them attended to.
        if step.saves and not ((step.loads or step.joins) and self._on_any_rank(self._failed)):
            self._saver.save(step.saves)
        if self._span_log.enabled:
            self._write_earlier(step)
        self._loads = []

    def end_loads(self) -> None:
        """After the forward: note the blocks that could not be filled. A second call of the step does nothing."""
        if not self._active:
            return
        invalid: set[int] = set()
        if (end := self._mark()) is not None:
            self._recorder.add_device(DeviceSpan("forward", -1, self._forward_begin, end))
        for engine in self._active:
            invalid |= engine.end_load()
        self._recorder.add(Span("forward", -1, self._forward_start, time.perf_counter()))
        self._note_seen(invalid)
        self._active = []
        self._invalid |= invalid
        if self._span_log.enabled:
            self._note_loads(invalid)
        for load in self._loads:
            self._outside.pop(load.request.request, None)
        if invalid:
            self._failed = True
            logger.warning("%d blocks could not be loaded and count as a miss", len(invalid))

    def released(self) -> set[str]:
        """Requests whose loads between steps have released them; what failed is among the next ``take_invalid``."""
        found: set[str] = set()
        for engine in self._between:
            for one in engine.released():
                found.add(one.request)
                self._invalid |= one.failed
                if one.failed and (outside := self._outside.get(one.request)):
                    logger.warning("%d blocks could not be loaded and count as a miss", len(one.failed))
                    self._write_outside(outside, one.failed)
        return found

    def _spans(self) -> tuple[list[Span], list[DeviceSpan]]:
        """Those since the last call, but for loads between steps, which keep their own."""
        left: tuple[list[Span], list[DeviceSpan]] = ([], [])
        for span in self._recorder.take():
            outside = self._outside.get(span.request)
            (left[0] if outside is None else outside.spans).append(span)
        for marked in self._recorder.take_device():
            outside = self._outside.get(marked.request)
            (left[1] if outside is None else outside.device_spans).append(marked)
        return left

    def _write_outside(self, outside: Outside, invalid: frozenset[int]) -> None:
        """The record of a load that ends before its request computes."""
        if outside.load.label and self._span_log.enabled and not outside.written:
            self._spans()  # no step is under way, so what is left are spans of loads that were dropped
            self._write(load_record(outside.load, self._rank, outside.spans, invalid))
        outside.written = True

    def _note_loads(self, invalid: set[int]) -> None:
        """Keep what happened until a step that nobody times: hundreds of spans (layerwise) take longer to sort than a few."""
        shared, marked = self._spans()
        of_step = StepSpans(shared, marked, self._clock)
        for load in self._loads:
            spans, outside = of_step, self._outside.get(load.request.request)
            if outside is not None:
                spans = StepSpans([*outside.spans, *shared], [*outside.device_spans, *marked], self._clock)
            if not load.label:
                continue
            if invalid.intersection(load.request.blocks):
                self._write(load_record(load, self._rank, spans.all, invalid))
            else:
                self._pending[load.request.request] = (load, spans, invalid)

    def _note_seen(self, invalid: set[int]) -> None:
        """What the step showed, unless arms shared it or a load failed: its times then belong to none of them."""
        if len(self._active) == 1 and self._loads and not invalid and (seen := self._active[0].saw()) is not None:
            self._saw[self._loads[0].arm] = replace(seen, tokens=self._tokens)

    def take_seen(self) -> Mapping[str, Seen]:
        """What loads have shown since the last call, by arm."""
        saw, self._saw = self._saw, {}
        return saw

    def take_invalid(self) -> set[int]:
        """Blocks that failed since the last call. With speculative decoding vLLM asks before it says that a step is over."""
        self.end_loads()
        invalid, self._invalid = self._invalid, set()
        return invalid

    def _bytes(self, layer: int, blocks: Sequence[int]) -> Sequence[Buffer]:
        """What stands in these blocks of a layer, without a copy where the cache is host memory."""
        return self._cache.targets(layer, blocks) if self._cache.direct else [self._cache.gather(layer, blocks)]

    def _write(self, record: Mapping[str, Any]) -> None:
        with self._logging:  # saves are noted by their own threads
            self._span_log.write(record)

    def _write_earlier(self, step: Step) -> None:
        for note in step.notes:
            self._write(lookup_record(note))
        for request_id in step.prove:
            if kept := self._pending.pop(request_id, None):
                load, spans, invalid = kept
                proof = self._proof(load.request, step.freed.get(request_id, 0))
                self._write({**load_record(load, self._rank, spans.all, invalid), "proof": proof})
        for request_id in step.forget:
            if kept := self._pending.pop(request_id, None):
                load, spans, invalid = kept
                self._write(load_record(load, self._rank, spans.all, invalid))

    def _proof(self, request: LoadRequest, freed: int) -> list[tuple[str, int, int]]:
        """Digests of a diagonal through chunks and layers: every chunk and every layer is looked at once at least.

        Not those with blocks that were not loaded, or among the first ``freed``.
        """
        geometry = self._cache.geometry
        per = geometry.chunk_blocks
        proof: list[tuple[str, int, int]] = []
        left = range(-(-freed // per), len(request.chunks))
        whole = [index for index in left if SKIP not in request.blocks[index * per : (index + 1) * per]]
        for i in range(max(len(whole), geometry.layers) if whole else 0):
            index, layer = whole[i % len(whole)], i % geometry.layers
            blocks = request.blocks[index * per : (index + 1) * per]
            proof.append((request.chunks[index], layer, checksum_parts(self._bytes(layer, blocks))))
        return proof

    def close(self) -> None:
        """Stop saving, the engines and the store."""
        self._saver.close()
        for engine in self._engines.values():
            engine.close()
        self._span_log.close()
        self._store.close()


def _by_arm(loads: Iterable[Load]) -> dict[str, list[Load]]:
    found: dict[str, list[Load]] = {}
    for load in loads:
        found.setdefault(load.arm, []).append(load)
    return found
