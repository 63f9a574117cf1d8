"""Reads straight into device memory: the path by a stand-in on the CPU, here; and by ``gds://`` where KvikIO and a GPU are."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kvikio_running import needs_kvikio, needs_kvikio_and_cuda

from harness.core.chunks import SKIP, Layout
from harness.core.spans import Recorder
from harness.engines.chunkwise import Chunkwise
from harness.engines.device import HostDevice
from harness.engines.fetch import Fetcher, Piece
from harness.engines.layerwise import Layerwise
from harness.engines.paged import PagedKV
from harness.stores import open_store
from harness.stores.base import Memory, Read, Store
from harness.stores.layered import Layered
from harness.testing.engines import EngineTests
from harness.testing.small_kv import PADDED, WHOLE_PAGES, Shape, SmallKV
from harness.testing.watched_store import WatchedStore

PLACES = {"whole pages": (WHOLE_PAGES, False), "padded layers": (PADDED, False), "a layer an object": (PADDED, True)}


class DeviceLike(HostDevice):
    """No host to the paged cache, though it copies at once."""


class DeviceLikeKV(PagedKV):
    """Tensors on the CPU that are treated as those of a GPU: no views of their bytes."""

    def __init__(self, plain: PagedKV) -> None:
        super().__init__(plain.layers, plain.geometry.chunk_blocks, plain.geometry.block_tokens, port=DeviceLike())


class TensorStore(WatchedStore):
    """Fills tensors as well, as ``gds`` does on a GPU."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.fills: frozenset[Memory] = frozenset({"host", "device"})
        self.registered: list[Any] = []

    def register(self, buffers: Sequence[Any]) -> None:
        self.registered.append(list(buffers))

    def read(self, reads: Sequence[Read]) -> None:
        super().read([_on_host(item) for item in reads])

    async def aread(self, reads: Sequence[Read]) -> None:
        await super().aread([_on_host(item) for item in reads])


def _on_host(item: Read) -> Read:
    parts: tuple[Any, ...] = item.out
    views = (part if isinstance(part, memoryview) else memoryview(part.numpy()) for part in parts)
    return Read(item.key, item.offset, tuple(views))


class IntoTensors(EngineTests):
    """The suite of engines over that stand-in; each class adds an engine."""

    @pytest.fixture(params=list(PLACES))
    def kv(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallKV]:
        shape, layered = PLACES[request.param]
        with open_store(f"file://{tmp_path}/kv") as files:
            cache, store = DeviceLikeKV(shape.build()), TensorStore(files)
            yield SmallKV(cache, Layered(store, cache.geometry) if layered else store)


class TestChunkwiseIntoTensors(IntoTensors):
    engine = Chunkwise
    options = {"pool": 3, "batch": 2}


class TestLayerwiseIntoTensors(IntoTensors):
    engine = Layerwise


class TestLayerwiseLoopsIntoTensors(IntoTensors):
    engine = Layerwise
    options = {"loops": 2, "readers": 4, "groups": "2"}


class TestWhatIsAskedFor:
    @pytest.fixture(params=[WHOLE_PAGES, PADDED], ids=["whole pages", "padded"])
    def kv(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallKV]:
        shape: Shape = request.param
        with open_store(f"file://{tmp_path}/kv") as files:
            yield SmallKV(DeviceLikeKV(shape.build()), TensorStore(files))

    def parts(self, kv: SmallKV, blocks: Sequence[int], **settings: bool) -> tuple[list[Any], Recorder]:
        """The targets of one read of layers 0 and 1, and what was recorded of it."""
        recorder = Recorder()
        fetcher = Fetcher(kv.store, kv.cache, recorder, **{"staged": False, "verify": False, **settings})
        request = kv.request("a", 1, blocks)
        pieces = [Piece(request, 0, 0, 2)]
        slots = kv.cache.ring().take(fetcher._slots_for(pieces))
        (landing,) = fetcher._land(pieces, kv.cache.ring(), slots)
        kv.cache.ring().give(slots)
        assert fetcher.fetch(pieces) == []
        return list(landing.read.out), recorder

    def test_blocks_are_the_targets_and_nothing_is_copied(self, kv: SmallKV) -> None:
        (header, *data), recorder = self.parts(kv, (9, 3))
        assert isinstance(header, memoryview)
        each = 3 if Layout(kv.cache.geometry).padding else 2
        per_layer = [data[:each], data[each:]]
        for layer, parts in enumerate(per_layer):
            wanted = [row.data_ptr() for row in kv.cache.targets(layer, [9, 3])]
            assert [part.data_ptr() for part in parts[:2]] == wanted
            assert all(isinstance(part, torch.Tensor) for part in parts)
        assert [span.kind for span in recorder.take()] == ["fetch"]

    def test_skipped_blocks_end_in_scratch_memory_of_the_device(self, kv: SmallKV) -> None:
        (_, first, second, *_), _ = self.parts(kv, (SKIP, 3))
        assert isinstance(first, torch.Tensor)
        assert first.nbytes == kv.cache.geometry.block_bytes
        layers = [row.data_ptr() for layer in range(kv.cache.geometry.layers) for row in kv.cache.targets(layer, range(32))]
        assert first.data_ptr() not in layers
        assert second.data_ptr() == kv.cache.targets(0, [3])[0].data_ptr()

    @pytest.mark.parametrize("settings", [{"staged": True}, {"verify": True}])
    def test_staging_is_host_memory_also_for_checksums(self, kv: SmallKV, settings: dict[str, bool]) -> None:
        parts, recorder = self.parts(kv, (9, 3), **settings)
        assert [type(part) for part in parts] == [memoryview] * 3  # the header, and a slot of the ring per layer
        assert [span.kind for span in recorder.take()] == ["fetch"]
        assert [span.kind for span in recorder.take_device()] == ["copy"]

    def test_layers_are_registered_once_an_engine_unless_all_is_staged(self, kv: SmallKV) -> None:
        store = kv.store
        assert isinstance(store, TensorStore)
        for staged in (True, False):
            Fetcher(store, kv.cache, Recorder(), staged=staged, verify=False)
        assert [[buffer.data_ptr() for buffer in call] for call in store.registered] == [
            [layer.data_ptr() for layer in kv.cache.layers]
        ]

    def test_registration_reaches_the_store_behind_others(self, kv: SmallKV, tmp_path: Path) -> None:
        store = kv.store
        assert isinstance(store, TensorStore)
        front = WatchedStore(Layered(store, kv.cache.geometry))
        assert front.fills == store.fills
        front.register(["buffer"])
        assert store.registered == [["buffer"]]
        with open_store(f"shaped+file://{tmp_path}/other") as shaped:
            assert shaped.fills == {"host"}
            shaped.register(["buffer"])

    def test_stores_of_host_memory_get_none_of_it(self, kv: SmallKV) -> None:
        """The same cache in front of a plain store is staged."""
        store = kv.store
        assert isinstance(store, TensorStore)
        kv.store = store.inner
        parts, recorder = self.parts(kv, (9, 3))
        assert [type(part) for part in parts] == [memoryview] * 3  # the header, and a slot of the ring per layer
        assert [span.kind for span in recorder.take()] == ["fetch"]
        assert [span.kind for span in recorder.take_device()] == ["copy"]


class Event:
    """A CUDA event that comes to pass when somebody waits for it."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        self._log.append("event")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_read_begins_after_the_event_of_its_step(kv: SmallKV, asynchronous: bool) -> None:
    """Which is recorded on CUDA alone."""
    log: list[str] = []
    store = WatchedStore(kv.store, lambda call: log.append("read"))
    fetcher = Fetcher(store, kv.cache, Recorder(), staged=False, verify=False)
    assert fetcher._free is None
    fetcher._free = Event(log)
    piece = Piece(kv.request("a", 1, (9, 3)), 0, 0, 6)
    assert (asyncio.run(fetcher.afetch([piece])) if asynchronous else fetcher.fetch([piece])) == []
    assert log == ["event", "read"]


class OverGds(EngineTests):
    """The suite of engines over ``gds``; each class adds an engine and a device."""

    query = ""

    @pytest.fixture(params=list(PLACES))
    def kv(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallKV]:
        shape, layered = PLACES[request.param]
        with open_store(f"gds://{tmp_path}/kv{self.query}") as store:
            cache = shape.build(self.device)
            yield SmallKV(cache, Layered(store, cache.geometry) if layered else store)


class TestChunkwiseOverGdsIntoHostMemory(OverGds):
    pytestmark = needs_kvikio
    engine = Chunkwise
    options = {"pool": 3}
    query = "?compat=on"


class TestLayerwiseLoopOverGdsIntoHostMemory(OverGds):
    pytestmark = needs_kvikio
    engine = Layerwise
    options = {"loops": 1}


class TestChunkwiseOverGds(OverGds):
    pytestmark = needs_kvikio_and_cuda
    engine = Chunkwise
    options = {"pool": 3, "batch": 2}
    device = "cuda"


class TestLayerwiseOverGds(OverGds):
    pytestmark = needs_kvikio_and_cuda
    engine = Layerwise
    device = "cuda"


class TestLayerwiseOverGdsInCompatibilityMode(OverGds):
    pytestmark = needs_kvikio_and_cuda
    engine = Layerwise
    options = {"loops": 1, "groups": "2"}
    device = "cuda"
    query = "?compat=on"


class TestOrderOnCuda:
    pytestmark = needs_kvikio_and_cuda

    @pytest.mark.parametrize("query", ["", "?compat=on"])
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_reads_wait_for_the_work_that_still_needs_the_blocks(self, tmp_path: Path, query: str, asynchronous: bool) -> None:
        """cuFile does not heed streams: queued work that reads the blocks has to be over before they are filled."""
        with open_store(f"gds://{tmp_path}/kv{query}") as store, torch.cuda.stream(torch.cuda.Stream()):
            kv = SmallKV(WHOLE_PAGES.build("cuda"), store)
            fetcher = Fetcher(store, kv.cache, Recorder(), staged=False, verify=False)
            request = kv.request("a", 1, (9, 3))
            before = kv.contents(0)
            torch.cuda._sleep(200_000_000)  # clock cycles: some 0.1 s
            seen = kv.cache.layers[0].clone()
            fetcher.begin_step()
            piece = Piece(request, 0, 0, 6)
            assert (asyncio.run(fetcher.afetch([piece])) if asynchronous else fetcher.fetch([piece])) == []
            kv.expect(request)
            kv.check_all()
            size = kv.cache.geometry.block_bytes
            data = seen.cpu().contiguous().view(torch.uint8).numpy().tobytes()
            assert [data[i * size : (i + 1) * size] for i in range(kv.cache.blocks)] == before
