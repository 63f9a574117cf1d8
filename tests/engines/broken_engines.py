"""A plain engine of somebody else's, right and broken in many ways, under the conformance suite.

Run by test_suite_catches_broken_engines.py, which expects failures; pytest does not collect it by itself.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch

from harness.core.chunks import SKIP, ChunkKey, Layout, LoadRequest, check_header
from harness.core.errors import ReadFailures, StoreError
from harness.core.spans import Recorder, Span
from harness.engines.base import Engine, EngineOptions, Released
from harness.engines.deferred import Deferred
from harness.engines.paged import PagedKV
from harness.stores.base import Read, Store
from harness.testing.between_steps import BetweenStepsTests
from harness.testing.engines import EngineTests


class Plain(Engine):
    """Chunk by chunk into a buffer, from there into the blocks."""

    name = "plain"

    def __init__(self, store: Store, cache: PagedKV, options: EngineOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        self.layout = Layout(cache.geometry)
        self.failed: set[int] = set()

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        per = self.cache.geometry.chunk_blocks
        for request in batch:
            for index, key in enumerate(request.chunks):
                blocks = request.blocks[index * per : (index + 1) * per]
                data = self.get(request, key)
                if data is None:
                    self.fail(request, blocks)
                else:
                    self.put(blocks, data)

    def get(self, request: LoadRequest, key: ChunkKey) -> bytearray | None:
        data = bytearray(self.layout.total_bytes)
        span = Span("fetch", -1, 0.0, 0.0, len(data), 1, request.request)
        try:
            self.store.read([Read(key, 0, (memoryview(data),))])
            self.check(key, data)
        except StoreError:
            return None
        self.recorder.add(span)
        return data

    def check(self, key: ChunkKey, data: bytearray) -> None:
        check_header(self.layout, key, memoryview(data)[: self.layout.header_bytes])

    def fail(self, request: LoadRequest, blocks: Sequence[int]) -> None:
        self.failed.update(block for block in blocks if block != SKIP)

    def put(self, blocks: Sequence[int], data: bytearray) -> None:
        for layer in range(self.cache.geometry.layers):
            begin = self.layout.offset(layer)
            self.put_layer(layer, blocks, data[begin : begin + self.cache.geometry.layer_bytes])

    def put_layer(self, layer: int, blocks: Sequence[int], data: bytearray) -> None:
        self.cache.scatter(layer, blocks, torch.frombuffer(data, dtype=torch.uint8))

    def wait_layer(self, layer: int) -> None:
        pass

    def end_load(self) -> frozenset[int]:
        failed, self.failed = frozenset(self.failed), set()
        return failed


class SkipsALayer(Plain):
    def put_layer(self, layer: int, blocks: Sequence[int], data: bytearray) -> None:
        if layer != 4:
            super().put_layer(layer, blocks, data)


class IgnoresFailures(Plain):
    def fail(self, request: LoadRequest, blocks: Sequence[int]) -> None:
        pass


class FailsWholeRequests(Plain):
    def fail(self, request: LoadRequest, blocks: Sequence[int]) -> None:
        super().fail(request, request.blocks)


class FailsSkippedBlocks(Plain):
    def fail(self, request: LoadRequest, blocks: Sequence[int]) -> None:
        self.failed.update(blocks)


class RemembersFailures(Plain):
    def end_load(self) -> frozenset[int]:
        return frozenset(self.failed)


class RaisesForMissingChunks(Plain):
    def fail(self, request: LoadRequest, blocks: Sequence[int]) -> None:
        raise ReadFailures({0: StoreError(f"a chunk of {request.request} is missing")})


class SwallowsCrashes(Plain):
    def get(self, request: LoadRequest, key: ChunkKey) -> bytearray | None:
        try:
            return super().get(request, key)
        except RuntimeError:
            return bytearray(self.layout.total_bytes)


class WritesAnotherChunk(Plain):
    first: ClassVar[bytearray | None] = None

    def put(self, blocks: Sequence[int], data: bytearray) -> None:
        type(self).first = self.first or data
        super().put(blocks, type(self).first or data)


class TurnsBlocksRound(Plain):
    def put_layer(self, layer: int, blocks: Sequence[int], data: bytearray) -> None:
        super().put_layer(layer, blocks[::-1], data)


class WritesSkippedBlocks(Plain):
    def put_layer(self, layer: int, blocks: Sequence[int], data: bytearray) -> None:
        super().put_layer(layer, [block % self.cache.blocks for block in blocks], data)


class WritesBesides(Plain):
    def put(self, blocks: Sequence[int], data: bytearray) -> None:
        super().put([block if block == SKIP else (block + 16) % self.cache.blocks for block in blocks], data)
        super().put(blocks, data)


class BelievesEveryHeader(Plain):
    def check(self, key: ChunkKey, data: bytearray) -> None:
        pass


class BelievesForeignHeaders(Plain):
    """Looks at the magic only."""

    def check(self, key: ChunkKey, data: bytearray) -> None:
        if not data.startswith(b"TTFT-KV"):
            super().check(key, data)


class ComesLate(Plain):
    """The bytes are there at the end of the step, which is too late for the attention."""

    def __init__(self, store: Store, cache: PagedKV, options: EngineOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        self.late: list[tuple[Sequence[int], bytearray]] = []

    def put(self, blocks: Sequence[int], data: bytearray) -> None:
        self.late.append((blocks, data))

    def end_load(self) -> frozenset[int]:
        for blocks, data in self.late:
            super().put(blocks, data)
        self.late.clear()
        return super().end_load()


class RecordsNothing(Plain):
    def get(self, request: LoadRequest, key: ChunkKey) -> bytearray | None:
        enabled, self.recorder.enabled = self.recorder.enabled, False
        data = super().get(request, key)
        self.recorder.enabled = enabled
        return data


class RecordsAlways(Plain):
    def get(self, request: LoadRequest, key: ChunkKey) -> bytearray | None:
        self.recorder.enabled = True
        return super().get(request, key)


class ReleasesTwice(Deferred):
    def released(self) -> Sequence[Released]:
        return [one for one in super().released() for _ in range(2)]


class HidesFailures(Deferred):
    def released(self) -> Sequence[Released]:
        return [Released(one.request) for one in super().released()]


class TellsFailuresAgain(Deferred):
    told: frozenset[int] = frozenset()

    def released(self) -> Sequence[Released]:
        found = super().released()
        self.told = self.told.union(*(one.failed for one in found))
        return found

    def end_load(self) -> frozenset[int]:
        return super().end_load() | self.told


class TestPlain(EngineTests):
    engine = Plain


ENGINES: dict[str, type[Engine]] = {
    engine.__name__: engine for engine in list(globals().values()) if isinstance(engine, type) and issubclass(engine, Plain)
}
del ENGINES["Plain"]
"""The broken ones."""

BETWEEN = {engine.__name__: engine for engine in (ReleasesTwice, HidesFailures, TellsFailuresAgain)}

for _suite, _engines in ((EngineTests, ENGINES), (BetweenStepsTests, BETWEEN)):
    for _name, _engine in _engines.items():
        globals()[f"Test{_name}"] = type(f"Test{_name}", (_suite,), {"engine": _engine, "__module__": __name__})
