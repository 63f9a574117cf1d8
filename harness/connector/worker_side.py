"""The half of the connector that lives with a worker: loads before the forward, saves and proofs after it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.connector.settings import Arm
from harness.connector.step import Load, Save, Step
from harness.core.chunks import SKIP, Layout, LoadRequest, checksum_parts, encode_header, for_rank
from harness.core.errors import StoreError
from harness.core.spans import Recorder, Span, SpanLog
from harness.engines.base import Engine
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
    ) -> None:
        """``on_any_rank``: true where any rank gives true. All ranks call it in the same steps, as it waits for the others."""
        self._store = store
        self._cache = cache
        self._layout = Layout(cache.geometry)
        self._span_log = span_log
        self._rank, self._world = rank, world
        self._on_any_rank = on_any_rank
        self._recorder = Recorder(enabled=span_log.enabled)
        self._engines = {name: arm.engine(store, cache, arm.options, self._recorder) for name, arm in arms.items()}
        self._active: list[Engine] = []
        self._loads: list[Load] = []
        self._invalid: set[int] = set()
        self._forward_start = 0.0
        self._pending: dict[str, tuple[Load, list[Span], set[int]]] = {}

    def start_load(self, step: Step) -> None:
        """Begin the step's loads, the engines that return at once first."""
        if not step.loads:
            return
        self._loads = [self._of_rank(load) for load in step.loads]
        by_arm: dict[str, list[LoadRequest]] = {}
        for load in self._loads:
            by_arm.setdefault(load.arm, []).append(load.request)
        # Layerwise only starts its fetches, chunkwise blocks: in this order they overlap within a step.
        for arm in sorted(by_arm, key=lambda name: self._engines[name].blocks_in_begin):
            engine = self._engines[arm]
            engine.begin_load(by_arm[arm])
            self._active.append(engine)
        self._forward_start = time.perf_counter()

    def _of_rank(self, load: Load) -> Load:
        if self._world == 1:
            return load
        request = load.request
        keys = tuple(for_rank(key, self._rank, self._world) for key in request.chunks)
        return Load(load.arm, LoadRequest(request.request, keys, request.blocks), load.label)

    def wait_layer(self, layer: int) -> None:
        """Before the attention of ``layer``."""
        for engine in self._active:
            engine.wait_layer(layer)

    def finish(self, step: Step) -> None:
        """After the forward: failures, saves, then the span log and the proofs of requests of earlier steps."""
        failed = self._end_loads() if self._active else set()
        # After a failure nothing is saved: this step computed on blocks that were never filled, and through
        # vLLM's own prefix cache other requests than the one that failed may have used them too. On other ranks as
        # well: each layer adds up what all of them attended to.
        if step.saves and not (step.loads and self._on_any_rank(bool(failed))):
            self._save(step.saves)
        if self._span_log.enabled:
            self._write_earlier(step)
        self._loads = []

    def _end_loads(self) -> set[int]:
        """The blocks that could not be filled."""
        invalid: set[int] = set()
        for engine in self._active:
            invalid |= engine.end_load()
        self._recorder.add(Span("forward", -1, self._forward_start, time.perf_counter()))
        self._active = []
        self._invalid |= invalid
        if self._span_log.enabled:
            self._note_loads(invalid)
        if invalid:
            logger.warning("%d blocks could not be loaded and count as a miss", len(invalid))
        return invalid

    def _note_loads(self, invalid: set[int]) -> None:
        """Keep what happened until a step that nobody times: hundreds of spans (layerwise) take longer to sort than a few."""
        spans = self._recorder.take()
        for load in self._loads:
            if not load.label:
                continue
            if invalid.intersection(load.request.blocks):
                self._span_log.write(_load_record(load, self._rank, spans, invalid))
            else:
                self._pending[load.request.request] = (load, spans, invalid)

    def take_invalid(self) -> set[int]:
        """Blocks that failed since the last call."""
        invalid, self._invalid = self._invalid, set()
        return invalid

    def _save(self, saves: Sequence[Save]) -> None:
        for save in saves:
            key = for_rank(save.key, self._rank, self._world)
            try:
                if save.replace and not self._store.replaces:
                    self._store.delete([key])
                if save.replace or not self._store.exists([key]):
                    self._write_chunk(save, key)
            except StoreError as error:
                logger.error("chunk %s was not saved: %s", key, error)
                self._span_log.write({"kind": "save_error", "key": key, "error": str(error)})

    def _write_chunk(self, save: Save, key: Any) -> None:
        start = time.perf_counter()
        geometry = self._cache.geometry
        padding = [bytes(self._layout.padding)] if self._layout.padding else []
        parts: list[Buffer] = []
        checksums = []
        for layer in range(geometry.layers):
            own = self._bytes(layer, save.blocks)
            checksums.append(checksum_parts(own))
            parts += [*own, *padding]
        self._store.write(key, [encode_header(self._layout, key, checksums), *parts])
        self._span_log.write({"kind": "save", "key": key, "start_s": start, "end_s": time.perf_counter(), "checksums": checksums})

    def _bytes(self, layer: int, blocks: Sequence[int]) -> Sequence[Buffer]:
        """What stands in these blocks of a layer, without a copy where the cache is host memory."""
        return self._cache.targets(layer, blocks) if self._cache.direct else [self._cache.gather(layer, blocks)]

    def _write_earlier(self, step: Step) -> None:
        for note in step.notes:
            self._span_log.write(
                {
                    "kind": "lookup",
                    "label": note.label,
                    "start_s": note.start_s,
                    "end_s": note.end_s,
                    "hit_tokens": note.hit_tokens,
                }
            )
        for request_id in step.prove:
            if kept := self._pending.pop(request_id, None):
                load, spans, invalid = kept
                self._span_log.write({**_load_record(load, self._rank, spans, invalid), "proof": self._proof(load.request)})
        for request_id in step.forget:
            if kept := self._pending.pop(request_id, None):
                load, spans, invalid = kept
                self._span_log.write(_load_record(load, self._rank, spans, invalid))

    def _proof(self, request: LoadRequest) -> list[tuple[str, int, int]]:
        """Digests of a diagonal through chunks and layers: every chunk and every layer is looked at once at least."""
        geometry = self._cache.geometry
        per = geometry.chunk_blocks
        proof: list[tuple[str, int, int]] = []
        for i in range(max(len(request.chunks), geometry.layers)):
            index, layer = i % len(request.chunks), i % geometry.layers
            blocks = request.blocks[index * per : (index + 1) * per]
            if SKIP not in blocks:
                proof.append((request.chunks[index], layer, checksum_parts(self._bytes(layer, blocks))))
        return proof

    def close(self) -> None:
        """Stop the engines and the store."""
        for engine in self._engines.values():
            engine.close()
        self._span_log.close()
        self._store.close()


def _load_record(load: Load, rank: int, spans: Sequence[Span], invalid: set[int]) -> dict[str, Any]:
    """The span-log record of one request's load; the step's waits count for each of its requests."""
    own = [span for span in spans if span.request == load.request.request]
    shared = [span for span in spans if not span.request]
    fetches = [span for span in own if span.kind == "fetch"]
    moves = [span for span in own if span.kind in ("fetch", "copy")]
    return {
        "kind": "load",
        "label": load.label,
        "rank": rank,
        "arm": load.arm,
        "start_s": min((span.start_s for span in moves), default=None),
        "end_s": max((span.end_s for span in moves), default=None),
        "stall_s": sum(span.end_s - span.start_s for span in shared if span.kind == "wait"),
        "operations": len(fetches),
        "keys": sum(span.keys for span in fetches),
        "bytes": sum(span.bytes for span in fetches),
        "failed_blocks": len(invalid.intersection(load.request.blocks)),
        "spans": [[s.kind, s.layer, s.start_s, s.end_s, s.bytes, s.keys] for s in [*own, *shared]],
        "proof": None,
    }
