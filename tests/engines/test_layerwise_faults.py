"""What the layerwise engine does when a reader breaks, and what it records."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest
from gates import LAYERS, READERS, Gates, MakeEngine, first_layer

from harness.connector.settings import parse_arm
from harness.core.errors import StoreUnavailable, UsageError
from harness.core.spans import Recorder, Span
from harness.testing.engines import within
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call, WatchedStore

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


@pytest.mark.parametrize("text", ["depth=0", "groups=0", "readers=0", "loops=-1", "readers=1,loops=2", "batch=0", "pool=3"])
def test_bad_options_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text.split("=")[0] if "," not in text else "loops=2 is more than readers=1"):
        parse_arm(f"layerwise:{text}")
