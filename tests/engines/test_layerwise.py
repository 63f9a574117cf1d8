"""How far ahead the layerwise engine fetches, what it waits for, and who carries out its calls."""

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest

from harness.chunkfile import Layout
from harness.connector.settings import parse_arm
from harness.engines.base import Engine
from harness.errors import StoreUnavailable, UsageError
from harness.recorder import Recorder
from harness.stores.base import Store
from harness.testing.engines import within
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call, WatchedStore
from harness.types import Span

MakeEngine = Callable[..., Engine]

LAYERS = 6
READERS = ["", ",loops=1", ",loops=3"]
"""Threads, one event loop, three event loops."""


def first_layer(kv: SmallKV, call: Call) -> int:
    """The first layer that a call reads."""
    layout = Layout(kv.cache.geometry)
    return max(0, (call.reads[0].offset - layout.header_bytes) // layout.layer_stride)


class Gates:
    """Keeps the reads of each layer back until it is opened."""

    def __init__(self, kv: SmallKV) -> None:
        self._kv = kv
        self._open = [threading.Event() for _ in range(LAYERS)]

    def before(self, call: Call) -> None:
        if not self._open[first_layer(self._kv, call)].wait(20):
            raise TimeoutError("a gate was never opened")

    def open(self, *layers: int) -> None:
        for layer in layers:
            self._open[layer].set()


# -- how far ahead ------------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", READERS)
@pytest.mark.parametrize(("depth", "width"), [(1, 1), (2, 1), (3, 2), (1, 4), (4, 3), (100, 1)])
def test_no_fetch_starts_before_its_time(kv: SmallKV, make: MakeEngine, depth: int, width: int, readers: str) -> None:
    """While layer i is computed, exactly the fetches that begin below layer i + depth may have started, and do."""
    requests = [kv.request("a", 2, range(4)), kv.request("b", 1, (30, 31))]
    watched = WatchedStore(kv.store)
    engine = make(f"layerwise:depth={depth},layers_per_fetch={width},readers=12{readers}", watched)
    engine.begin_load(requests)
    for layer in range(-1, LAYERS):
        if layer >= 0:
            engine.wait_layer(layer)
        allowed = [first for first in range(0, LAYERS, width) if first < max(layer, 0) + depth]
        allowed_calls = 3 * len(allowed)
        assert watched.wait_for(lambda n=allowed_calls: len(watched.calls) >= n)  # type: ignore[misc]
        if layer in (-1, 2):  # a reader that may go on does so within microseconds
            time.sleep(0.03)
        assert sorted({first_layer(kv, call) for call in watched.calls}) == allowed
    engine.end_load()
    assert len(watched.calls) == 3 * len(range(0, LAYERS, width))


@pytest.mark.parametrize("readers", READERS)
def test_waits_only_for_its_own_layer(kv: SmallKV, make: MakeEngine, readers: str) -> None:
    request = kv.request("a", 2, (8, 3, 1, 9))
    gates = Gates(kv)
    engine = make(f"layerwise:depth=6,readers=12{readers}", WatchedStore(kv.store, gates.before))
    kv.expect(request)
    engine.begin_load([request])
    for layer in range(LAYERS):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(engine.wait_layer, layer)
            if layer == 3:
                time.sleep(0.05)
            assert not waiting.done()
            gates.open(layer)
            waiting.result(20)
        kv.check(layer)
    assert engine.end_load() == frozenset()


def test_layers_behind_do_not_hold_up_those_before(kv: SmallKV, make: MakeEngine) -> None:
    request = kv.request("a", 2, (8, 3, 1, 9))
    gates = Gates(kv)
    gates.open(0, 1, 2)
    engine = make("layerwise:depth=6,readers=12", WatchedStore(kv.store, gates.before))
    kv.expect(request)
    engine.begin_load([request])
    for layer in range(3):
        within(lambda n=layer: engine.wait_layer(n))  # type: ignore[misc]
        kv.check(layer)
    gates.open(3, 4, 5)
    assert within(engine.end_load) == frozenset()


def test_begin_returns_before_anything_has_come(kv: SmallKV, make: MakeEngine) -> None:
    gates = Gates(kv)
    engine = make("layerwise", WatchedStore(kv.store, gates.before))
    within(lambda: engine.begin_load([kv.request("a", 4, range(8))]))
    gates.open(*range(LAYERS))
    assert engine.blocks_in_begin is False
    assert within(engine.end_load) == frozenset()


# -- by whom ------------------------------------------------------------------------------------------


def meet(count: int) -> Callable[[Call], None]:
    """A ``before`` that lets reads pass only when ``count`` of them have come together."""
    barrier = threading.Barrier(count)

    def before(call: Call) -> None:
        barrier.wait(20)

    return before


class WithoutAread(WatchedStore):
    """A store that leaves ``aread`` as it is: ``read`` in the loop's executor."""

    aread = Store.aread


@pytest.mark.parametrize("store", [WatchedStore, WithoutAread])
@pytest.mark.parametrize(("readers", "loops"), [(1, 0), (4, 0), (12, 0), (1, 1), (4, 1), (12, 1), (4, 3), (12, 5)])
def test_as_many_calls_are_under_way_as_there_are_readers(
    kv: SmallKV, make: MakeEngine, store: type[WatchedStore], readers: int, loops: int
) -> None:
    watched = store(kv.store, meet(readers))
    engine = make(f"layerwise:depth=6,readers={readers},loops={loops}", watched)
    request = kv.request("a", 4, range(8))
    assert within(lambda: kv.step(engine, [request])) == frozenset()
    assert watched.most_under_way == readers
    assert len(watched.calls) == 24
    assert {call.asynchronous for call in watched.calls} == {loops > 0 and store is WatchedStore}


@pytest.mark.parametrize("loops", [0, 1, 2])
def test_loops_call_aread_from_their_own_threads(kv: SmallKV, make: MakeEngine, loops: int) -> None:
    watched = WatchedStore(kv.store, meet(4))
    engine = make(f"layerwise:readers=4,loops={loops}", watched)
    within(lambda: kv.step(engine, [kv.request("a", 4, range(8))]))
    assert {call.asynchronous for call in watched.calls} == {loops > 0}
    assert len({call.thread for call in watched.calls}) == (loops or 4)


@pytest.mark.parametrize(("width", "batch", "calls"), [(1, 1, 30), (1, 2, 18), (1, 9, 6), (4, 1, 10), (6, 5, 1), (99, 99, 1)])
def test_a_call_asks_for_layers_of_a_batch_of_chunks(kv: SmallKV, make: MakeEngine, width: int, batch: int, calls: int) -> None:
    recorder = Recorder()
    watched = WatchedStore(kv.store)
    engine = make(f"layerwise:layers_per_fetch={width},batch={batch},depth=6", watched, recorder)
    kv.step(engine, [kv.request("a", 5, range(10))])
    fetches = [span for span in recorder.take() if span.kind == "fetch"]
    assert len(watched.calls) == len(fetches) == calls
    assert sum(span.bytes for span in fetches) == 5 * Layout(kv.cache.geometry).total_bytes
    assert {span.layer for span in fetches} == ({-1} if width >= LAYERS else set(range(0, LAYERS, width)))
    assert {span.request for span in fetches} == {"a"}
    assert sum(span.keys for span in fetches) == 5 * len(range(0, LAYERS, width))


# -- what went wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", READERS)
@pytest.mark.parametrize("layer", [0, 2, 5])
def test_a_crash_comes_out_and_the_next_step_works(kv: SmallKV, make: MakeEngine, layer: int, readers: str) -> None:
    request = kv.request("a", 3, (31, 0, 7, 6, 20, 3))
    broken = True

    def crash(call: Call) -> None:
        if broken and call.reads[0].key == request.chunks[1] and first_layer(kv, call) == layer:
            raise RuntimeError("a bug of the store")

    watched = WatchedStore(kv.store, crash)
    engine = make(f"layerwise:depth=1,readers=4{readers}", watched)
    with pytest.raises(RuntimeError, match="a bug of the store"):
        within(lambda: kv.step(engine, [request], request.chunks))
    assert within(engine.end_load) >= {7, 6}
    assert watched.under_way == 0
    broken = False
    assert within(lambda: kv.step(engine, [request])) == frozenset()


def test_a_crash_that_nobody_waited_for_comes_out_of_end(kv: SmallKV, make: MakeEngine) -> None:
    def crash(call: Call) -> None:
        raise RuntimeError("a bug of the store")

    watched = WatchedStore(kv.store, crash)
    engine = make("layerwise:readers=2", watched)
    engine.begin_load([kv.request("a", 4, range(8))])
    with pytest.raises(RuntimeError, match="a bug of the store"):
        within(engine.end_load)
    assert watched.under_way == 0
    assert engine.end_load() == frozenset()


def test_a_step_that_broke_off_is_over_before_the_next(kv: SmallKV, make: MakeEngine) -> None:
    """The forward raised, so nobody called ``end_load``."""
    gates = Gates(kv)
    watched = WatchedStore(kv.store, gates.before)
    engine = make("layerwise:readers=2", watched)
    first, second = kv.request("a", 4, range(8)), kv.request("b", 2, (1, 2, 3, 4))
    engine.begin_load([first])
    with ThreadPoolExecutor(1) as pool:
        beginning = pool.submit(engine.begin_load, [second])
        time.sleep(0.03)
        assert not beginning.done()
        assert not any(read.key in second.chunks for call in watched.calls for read in call.reads)
        gates.open(*range(LAYERS))
        beginning.result(20)
    assert within(engine.end_load) == frozenset()
    kv.undefined.update(first.blocks)
    kv.expect(second)
    kv.check_all()


@pytest.mark.parametrize("readers", READERS)
def test_a_chunk_that_failed_is_not_asked_for_again(kv: SmallKV, make: MakeEngine, readers: str) -> None:
    request = kv.request("a", 3, range(6))
    kv.store.delete(request.chunks[1:2])
    watched = WatchedStore(kv.store)
    engine = make(f"layerwise:depth=1,readers=3{readers}", watched)
    assert kv.step(engine, [request], request.chunks[1:2]) == {2, 3}
    asked: list[str] = [read.key for call in watched.calls for read in call.reads]
    assert [asked.count(key) for key in request.chunks] == [LAYERS, 1, LAYERS]


def test_a_call_that_fails_as_a_whole_fails_all_its_chunks(kv: SmallKV, make: MakeEngine) -> None:
    request = kv.request("a", 5, range(10))

    def refuse(call: Call) -> None:
        if request.chunks[2] in {read.key for read in call.reads} and first_layer(kv, call) == 3:
            raise StoreUnavailable("the store is gone; start it again")

    engine = make("layerwise:batch=2", WatchedStore(kv.store, refuse))
    assert kv.step(engine, [request], request.chunks[2:4]) == {4, 5, 6, 7}


# -- what is recorded ---------------------------------------------------------------------------------


def waits(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.kind == "wait"]


def is_waiting_for(layer: int) -> bool:
    """Whether some thread stands in a condition inside ``wait_layer(layer)``."""
    for top in sys._current_frames().values():
        frame: FrameType | None = top if top.f_code is threading.Condition.wait.__code__ else None
        while frame is not None:
            if frame.f_code.co_name == "wait_layer" and frame.f_locals["layer"] == layer:
                return True
            frame = frame.f_back
    return False


def test_a_wait_is_recorded_with_its_layer(kv: SmallKV, make: MakeEngine) -> None:
    """From when the forward stood still until the layer had come."""
    recorder = Recorder()
    released = []

    def before(call: Call) -> None:
        if first_layer(kv, call) == 2:
            deadline = time.monotonic() + 20
            while not is_waiting_for(2) and time.monotonic() < deadline:
                time.sleep(0.001)
            released.append(time.perf_counter())

    engine = make("layerwise:depth=6", WatchedStore(kv.store, before), recorder)
    begin = time.perf_counter()
    within(lambda: kv.step(engine, [kv.request("a", 1, (3, 4))]))
    (wait,) = [span for span in waits(recorder.take()) if span.layer == 2]
    assert begin <= wait.start_s <= released[0] <= wait.end_s <= time.perf_counter()
    assert wait.request == ""


def test_no_wait_is_recorded_for_what_is_there(kv: SmallKV, make: MakeEngine) -> None:
    recorder = Recorder()
    watched = WatchedStore(kv.store)
    engine = make("layerwise:depth=6", watched, recorder)
    engine.begin_load([kv.request("a", 2, range(4))])
    engine.end_load()
    recorder.take()
    engine.begin_load([kv.request("b", 2, range(4))])
    assert watched.wait_for(lambda: len(watched.calls) == 24 and watched.under_way == 0)
    deadline = time.monotonic() + 20
    while any(engine._remaining) and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.001)
    for layer in range(LAYERS):
        engine.wait_layer(layer)
    assert engine.end_load() == frozenset()
    assert waits(recorder.take()) == []


@pytest.mark.parametrize(
    "text", ["depth=0", "layers_per_fetch=0", "readers=0", "loops=-1", "readers=1,loops=2", "batch=0", "pool=3"]
)
def test_bad_options_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text.split("=")[0] if "," not in text else "loops=2 is more than readers=1"):
        parse_arm(f"layerwise:{text}")
