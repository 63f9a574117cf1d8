"""How far ahead the layerwise engine fetches, what it waits for, and who carries out its calls."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from gates import LAYERS, READERS, Gates, MakeEngine, first_layer

from harness.core.chunks import Layout
from harness.core.spans import Recorder
from harness.stores.base import Store
from harness.testing.engines import within
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call, WatchedStore

# -- how far ahead ------------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", READERS)
@pytest.mark.parametrize(("depth", "width"), [(1, 1), (2, 1), (3, 2), (1, 4), (4, 3), (100, 1)])
def test_no_fetch_starts_before_its_time(kv: SmallKV, make: MakeEngine, depth: int, width: int, readers: str) -> None:
    """While layer i is computed, exactly the fetches that begin below layer i + depth may have started, and do."""
    requests = [kv.request("a", 2, range(4)), kv.request("b", 1, (30, 31))]
    watched = WatchedStore(kv.store)
    engine = make(f"layerwise:depth={depth},groups={width},readers=12{readers}", watched)
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
    engine = make(f"layerwise:groups={width},batch={batch},depth=6", watched, recorder)
    kv.step(engine, [kv.request("a", 5, range(10))])
    fetches = [span for span in recorder.take() if span.kind == "fetch"]
    assert len(watched.calls) == len(fetches) == calls
    assert sum(span.bytes for span in fetches) == 5 * Layout(kv.cache.geometry).total_bytes
    assert {span.layer for span in fetches} == ({-1} if width >= LAYERS else set(range(0, LAYERS, width)))
    assert {span.request for span in fetches} == {"a"}
    assert sum(span.keys for span in fetches) == 5 * len(range(0, LAYERS, width))
