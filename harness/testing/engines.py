"""The conformance suite of engines, for pytest. Needs neither vLLM nor a model: a cache is plain tensors.

    class TestMine(EngineTests):
        engine = Mine
        options = {"readers": 4}

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
    class TestMineOnCuda(TestMine):
        device = "cuda"

For engines that load KV; one with ``loads_kv = False`` has nothing to test here.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.chunks import SKIP, Layout, LoadRequest
from harness.core.options import describe_options, parse_options
from harness.core.spans import Recorder
from harness.engines.base import Engine
from harness.stores.base import open_store
from harness.stores.layered import Layered
from harness.testing.faults import FAULTS, flip_a_bit, spoil
from harness.testing.small_kv import PADDED, WHOLE_PAGES, Shape, SmallKV, chunk_key
from harness.testing.watched_store import Call, WatchedStore

T = TypeVar("T")

PLACES: Mapping[str, tuple[str, Shape, bool]] = {
    "mem, whole pages": ("mem", WHOLE_PAGES, False),
    "file, padded layers": ("file", PADDED, False),
    "mem, a layer an object": ("mem", PADDED, True),
}
"""Where the suite's chunks lie, what cache they are loaded into, and whether each layer is an object of its own."""

_PROPERTY = settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def within(work: Callable[[], T], seconds: float = 20) -> T:
    """What ``work`` returns or raises, run in a thread of its own, so that one that hangs fails its test. Raises TimeoutError."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001  it belongs to the caller
            result.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return result.result(seconds)
    finally:
        thread.join(0 if not result.done() else None)


class MakeEngine(Protocol):
    """Makes an engine of the class under test, over ``kv``; the test's end closes it."""

    def __call__(self, kv: SmallKV, recorder: Recorder | None = None, **more: object) -> Engine:
        """``more``: options beside those of the test class."""


class EngineTests:
    """What every engine that loads KV promises. Set ``engine``, and ``options`` as a user would write them."""

    engine: ClassVar[type[Engine]]
    options: ClassVar[Mapping[str, Any]] = {}
    device: ClassVar[str] = "cpu"

    @pytest.fixture(params=list(PLACES))
    def kv(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallKV]:
        """A small cache beside an empty store, which is emptied after the test."""
        scheme, shape, layered = PLACES[request.param]
        with open_store(f"mem://test-{uuid4().hex}" if scheme == "mem" else f"file://{tmp_path}/kv") as store:
            cache = shape.build(self.device)
            yield SmallKV(cache, Layered(store, cache.geometry) if layered else store)
            store.delete(list(store.keys()))
            if scheme == "mem":
                store.root.rmdir()  # type: ignore[attr-defined]

    @pytest.fixture
    def make(self) -> Iterator[MakeEngine]:
        """Makes engines, and closes them."""
        with ExitStack() as stack:

            def build(kv: SmallKV, recorder: Recorder | None = None, **more: object) -> Engine:
                options = parse_options(self.engine.Options, {**self.options, **more}, f"engine '{self.engine.name}'")
                engine = self.engine(kv.store, kv.cache, options, recorder or Recorder())
                stack.callback(engine.close)
                return engine

            yield build

    # -- what is loaded ----------------------------------------------------------------------------

    def test_each_layer_is_in_place_after_its_wait(self, kv: SmallKV, make: MakeEngine) -> None:
        """Three requests, blocks scattered and out of order; nothing else is touched."""
        batch = [
            kv.request("a", 3, (31, 0, 7, 6, 20, 3)),
            kv.request("b", 1, (12, 30)),
            kv.request("c", 4, (5, 1, 19, 22, 8, 2, 14, 9)),
        ]
        assert kv.step(make(kv), batch) == frozenset()

    def test_end_waits_for_what_nobody_waited_for(self, kv: SmallKV, make: MakeEngine) -> None:
        """After ``end_load`` all is in place and no read is under way, even if the forward never came to a layer."""
        watched = WatchedStore(kv.store)
        engine = make(SmallKV(kv.cache, watched))
        request = kv.request("a", 5, (4, 3, 2, 1, 0, 9, 8, 7, 6, 5))
        kv.expect(request)
        engine.begin_load([request])
        assert engine.end_load() == frozenset()
        assert watched.under_way == 0
        kv.check_all()

    def test_skipped_blocks_stay(self, kv: SmallKV, make: MakeEngine) -> None:
        """At the head, in the middle, and whole chunks of them. Block -1 from the end stays as well."""
        batch = [kv.request("a", 3, (SKIP, 4, 9, SKIP, 2, 3)), kv.request("b", 2, (SKIP, SKIP, 29, 30))]
        assert kv.step(make(kv), batch) == frozenset()

    def test_skipped_blocks_and_checksums_go_together(self, kv: SmallKV, make: MakeEngine) -> None:
        """A checksum is that of the whole layer, also where a part of it is not wanted."""
        self._needs_option("verify")
        batch = [kv.request("a", 3, (SKIP, 4, 9, SKIP, 2, 3)), kv.request("b", 2, (SKIP, SKIP, 29, 30))]
        assert kv.step(make(kv, verify=True), batch) == frozenset()

    @pytest.mark.parametrize("names", [(), ("empty",), ("empty", "empty too")])
    def test_nothing_to_load(self, kv: SmallKV, make: MakeEngine, names: Sequence[str]) -> None:
        """No request, or requests without chunks."""
        assert kv.step(make(kv), [kv.request(name, 0, ()) for name in names]) == frozenset()

    def test_steps_follow_one_another(self, kv: SmallKV, make: MakeEngine) -> None:
        """Large, small and empty ones, over the same blocks."""
        engine = make(kv)
        for number, chunks in enumerate((1, 6, 0, 2, 6)):
            blocks = [(7 * i + number) % 31 for i in range(2 * chunks)]
            assert kv.step(engine, [kv.request(f"step {number}", chunks, blocks)]) == frozenset()

    def test_a_chunk_may_serve_several_requests(self, kv: SmallKV, make: MakeEngine) -> None:
        """Of one step: a shared prefix."""
        keys = kv.put("shared 0", "shared 1")
        batch = [LoadRequest("a", keys, (0, 1, 2, 3)), LoadRequest("b", keys, (9, 8, 7, 6))]
        assert kv.step(make(kv), batch) == frozenset()

    @_PROPERTY
    @given(draw=st.data())
    def test_any_batch(self, kv: SmallKV, make: MakeEngine, draw: st.DataObject) -> None:
        """However many requests and chunks, wherever the blocks, whichever are skipped or lost."""
        per = kv.cache.geometry.chunk_blocks
        free = draw.draw(st.permutations(range(kv.cache.blocks)), label="blocks")
        batch = []
        for number, chunks in enumerate(draw.draw(st.lists(st.integers(0, 5), max_size=3), label="chunks")):
            skips = draw.draw(st.lists(st.booleans(), min_size=chunks * per, max_size=chunks * per), label="skipped")
            blocks = [SKIP if skip else free.pop() for skip in skips]
            batch.append(kv.request(f"r{number}", chunks, blocks))
        keys = [key for request in batch for key in request.chunks]
        lost = draw.draw(st.sets(st.sampled_from(keys)), label="lost") if keys else set()
        kv.store.delete(lost)
        engine = make(kv)
        failed = kv.step(engine, batch, lost)
        engine.close()
        assert failed == {
            block
            for request in batch
            for i, key in enumerate(request.chunks)
            if key in lost
            for block in kv.blocks_of(request, i)
        }

    # -- what cannot be loaded ----------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_chunk_that_cannot_be_had_is_named(self, kv: SmallKV, make: MakeEngine, fault: str) -> None:
        """Its blocks and no others; the other chunks of the batch are right, and the next step knows nothing of it."""
        batch = [kv.request("a", 3, (31, 0, 7, 6, 20, 3)), kv.request("b", 2, (12, 30, 1, 2)), kv.request("c", 1, (4, 5))]
        engine = make(kv)
        lost = [batch[0].chunks[1], batch[2].chunks[0]]
        for key in lost:
            spoil(kv, key, fault)
        assert kv.step(engine, batch, lost) == {7, 6, 4, 5}
        assert kv.step(engine, [kv.request("d", 2, (9, 6, 7, 0))]) == frozenset()

    @pytest.mark.parametrize("fault", ["missing", "ends in the last layer", "not ours"])
    def test_skipped_blocks_do_not_fail(self, kv: SmallKV, make: MakeEngine, fault: str) -> None:
        """They were filled by somebody else."""
        request = kv.request("a", 2, (SKIP, 8, 3, 2))
        spoil(kv, request.chunks[0], fault)
        assert kv.step(make(kv), [request], request.chunks[:1]) == {8}

    def test_all_chunks_are_missing(self, kv: SmallKV, make: MakeEngine) -> None:
        """A store that was emptied behind our back."""
        request = kv.request("a", 4, range(8))
        kv.store.delete(request.chunks)
        assert kv.step(make(kv), [request], request.chunks) == set(range(8))

    @pytest.mark.parametrize("layer", [0, 3, 5])
    def test_a_wrong_byte_is_seen_by_its_checksum(self, kv: SmallKV, make: MakeEngine, layer: int) -> None:
        """With ``verify``, where the engine has that option."""
        self._needs_option("verify")
        request = kv.request("a", 3, (31, 0, 7, 6, 20, 3))
        flip_a_bit(kv, request.chunks[1], layer)
        assert kv.step(make(kv, verify=True), [request], request.chunks[1:2]) == {7, 6}

    def test_a_crash_in_the_store_does_not_hang_or_pass(self, kv: SmallKV, make: MakeEngine) -> None:
        """An error that no store should raise comes out of one of the calls, or the chunk's blocks are named."""
        request = kv.request("a", 3, (31, 0, 7, 6, 20, 3))

        def crash(call: Call) -> None:
            if any(read.key == request.chunks[1] for read in call.reads):
                raise RuntimeError("a bug of the store")

        watched = SmallKV(kv.cache, WatchedStore(kv.store, crash))
        engine = make(watched)
        with suppress(RuntimeError):
            assert within(lambda: watched.step(engine, [request], request.chunks)) >= {7, 6}
        within(engine.close)

    # -- when there is nothing to do -----------------------------------------------------------------

    def test_idle_calls_do_nothing(self, kv: SmallKV, make: MakeEngine) -> None:
        """Before the first step and between two."""
        engine = make(kv)
        for _ in range(2):
            engine.wait_layer(0)
            engine.wait_layer(kv.cache.geometry.layers - 1)
            assert engine.end_load() == frozenset()
            kv.step(engine, [kv.request("a", 1, (3, 4))])
        kv.check_all()

    def test_failures_are_told_once(self, kv: SmallKV, make: MakeEngine) -> None:
        """A second ``end_load`` has nothing to say."""
        engine = make(kv)
        request = LoadRequest("a", (chunk_key("never stored"),), (1, 2))
        assert kv.step(engine, [request], request.chunks) == {1, 2}
        assert engine.end_load() == frozenset()

    @pytest.mark.parametrize("worked", [False, True])
    def test_closing_twice_is_safe(self, kv: SmallKV, make: MakeEngine, worked: bool) -> None:
        """Also of an engine that never did anything, and no thread stays."""
        before = set(threading.enumerate())
        engine = make(kv)
        if worked:
            kv.step(engine, [kv.request("a", 2, (3, 4, 5, 6))])
        within(engine.close)
        within(engine.close)
        assert set(threading.enumerate()) <= before

    # -- what is recorded -----------------------------------------------------------------------------

    def test_fetches_are_recorded(self, kv: SmallKV, make: MakeEngine) -> None:
        """Under their request, with the bytes of its chunks."""
        recorder = Recorder()
        batch = [kv.request("a", 3, (31, 0, 7, 6, 20, 3)), kv.request("b", 1, (12, 30))]
        kv.step(make(kv, recorder), batch)
        spans = recorder.take()
        layout = Layout(kv.cache.geometry)
        for request in batch:
            own = [span for span in spans if span.kind == "fetch" and span.request == request.request]
            chunks = len(request.chunks)
            assert chunks * kv.cache.geometry.chunk_bytes <= sum(span.bytes for span in own) <= chunks * layout.total_bytes
            assert sum(span.keys for span in own) >= chunks
        assert all(span.start_s <= span.end_s for span in spans)
        assert {span.kind for span in spans} <= {"fetch", "copy", "wait"}

    def test_nothing_is_recorded_when_nobody_looks(self, kv: SmallKV, make: MakeEngine) -> None:
        """Serving without a trace."""
        recorder = Recorder(enabled=False)
        kv.step(make(kv, recorder), [kv.request("a", 2, (3, 4, 5, 6))])
        assert recorder.spans == []

    def test_every_option_is_described(self) -> None:
        """``ttft list engines`` shows the descriptions."""
        assert all(description for _, _, description in describe_options(self.engine.Options))

    def _needs_option(self, name: str) -> None:
        if name not in self.engine.Options.model_fields:
            pytest.skip(f"{self.engine.name} has no option '{name}'")
