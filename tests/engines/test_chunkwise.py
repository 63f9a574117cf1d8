"""How many gets the chunkwise engine has under way, of how many chunks, and what it records."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from harness.connector.settings import parse_arm
from harness.core.chunks import Layout
from harness.core.errors import StoreUnavailable, UsageError
from harness.core.spans import Recorder
from harness.engines.base import Engine
from harness.testing.engines import within
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call, WatchedStore

MakeEngine = Callable[..., Engine]


def meet(count: int) -> Callable[[Call], None]:
    """A ``before`` that lets reads pass only when ``count`` of them have come together."""
    barrier = threading.Barrier(count)

    def before(call: Call) -> None:
        barrier.wait(20)

    return before


def default_threads() -> int:
    return min(32, (os.cpu_count() or 1) + 4)


@pytest.mark.parametrize(("pool", "threads"), [("1", 1), ("3", 3), ("8", 8), ("default", default_threads())])
def test_a_pool_has_its_number_of_gets_under_way(kv: SmallKV, make: MakeEngine, pool: str, threads: int) -> None:
    request = kv.request("a", threads, range(2 * threads))
    watched = WatchedStore(kv.store, meet(threads))
    engine = make(f"chunkwise:pool={pool}", watched)
    assert within(lambda: kv.step(engine, [request])) == frozenset()
    assert watched.most_under_way == threads


def test_a_pool_never_has_more(kv: SmallKV, make: MakeEngine) -> None:
    request = kv.request("a", 16, range(32))
    watched = WatchedStore(kv.store)
    kv.step(make("chunkwise:pool=3", watched), [request])
    assert len(watched.calls) == 16
    assert watched.most_under_way <= 3
    assert len({call.thread for call in watched.calls}) <= 3
    assert threading.get_ident() not in {call.thread for call in watched.calls}


def test_without_a_pool_gets_follow_one_another_in_the_calling_thread(kv: SmallKV, make: MakeEngine) -> None:
    batch = [kv.request("a", 5, range(10)), kv.request("b", 2, (31, 30, 29, 28))]
    watched = WatchedStore(kv.store)
    kv.step(make("chunkwise", watched), batch)
    assert watched.most_under_way == 1
    assert [call.thread for call in watched.calls] == [threading.get_ident()] * 7
    assert [call.reads[0].key for call in watched.calls] == [*batch[0].chunks, *batch[1].chunks]


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (2, [2, 2, 1, 2]), (4, [4, 1, 2]), (100, [5, 2])])
def test_a_call_asks_for_a_batch_of_one_request(kv: SmallKV, make: MakeEngine, batch: int, sizes: list[int]) -> None:
    requests = [kv.request("a", 5, range(10)), kv.request("b", 2, (31, 30, 29, 28))]
    watched = WatchedStore(kv.store)
    recorder = Recorder()
    kv.step(make(f"chunkwise:batch={batch}", watched, recorder), requests)
    assert [len(call.reads) for call in watched.calls] == sizes
    assert [span.keys for span in recorder.spans if span.kind == "fetch"] == sizes


def test_a_get_asks_for_the_whole_object(kv: SmallKV, make: MakeEngine) -> None:
    request = kv.request("a", 1, (5, 9))
    watched = WatchedStore(kv.store)
    kv.step(make("chunkwise", watched), [request])
    (read,) = watched.calls[0].reads
    assert (read.key, read.offset, read.length) == (request.chunks[0], 0, Layout(kv.cache.geometry).total_bytes)


@pytest.mark.parametrize("pool", [0, 3])
def test_all_is_in_place_before_the_forward(kv: SmallKV, make: MakeEngine, pool: int) -> None:
    request = kv.request("a", 4, range(8))
    engine = make(f"chunkwise:pool={pool}")
    kv.expect(request)
    engine.begin_load([request])
    kv.check_all()


@pytest.mark.parametrize("pool", [0, 3])
def test_the_wait_spans_the_whole_of_begin(kv: SmallKV, make: MakeEngine, pool: int) -> None:
    recorder = Recorder()
    before = time.perf_counter()
    kv.step(make(f"chunkwise:pool={pool}", recorder=recorder), [kv.request("a", 4, range(8))])
    after = time.perf_counter()
    spans = recorder.take()
    (wait,) = [span for span in spans if span.kind == "wait"]
    fetches = [span for span in spans if span.kind == "fetch"]
    assert (wait.layer, wait.request) == (-1, "")
    assert before <= wait.start_s <= min(span.start_s for span in fetches)
    assert max(span.end_s for span in fetches) <= wait.end_s <= after
    size = Layout(kv.cache.geometry).total_bytes
    assert [(span.layer, span.bytes, span.keys, span.request) for span in fetches] == [(-1, size, 1, "a")] * 4


def test_copies_are_recorded_where_there_are_any(kv: SmallKV, make: MakeEngine) -> None:
    recorder = Recorder()
    kv.step(make("chunkwise:staged=1", recorder=recorder), [kv.request("a", 2, range(4))])
    spans = recorder.take()
    fetches = [span for span in spans if span.kind == "fetch"]
    copies = [span for span in spans if span.kind == "copy"]
    assert [(span.layer, span.bytes, span.request) for span in copies] == [(s.layer, s.bytes, s.request) for s in fetches]
    assert all(copy.start_s == fetch.end_s <= copy.end_s for fetch, copy in zip(fetches, copies, strict=True))


@pytest.mark.parametrize("pool", [0, 2])
def test_a_crash_comes_out_of_begin_when_nothing_is_under_way(kv: SmallKV, make: MakeEngine, pool: int) -> None:
    request = kv.request("a", 8, range(16))

    def crash(call: Call) -> None:
        if call.reads[0].key == request.chunks[1]:
            raise RuntimeError("a bug of the store")

    watched = WatchedStore(kv.store, crash)
    engine = make(f"chunkwise:pool={pool}", watched)
    with pytest.raises(RuntimeError, match="a bug of the store"):
        within(lambda: engine.begin_load([request]))
    assert watched.under_way == 0
    calls = len(watched.calls)
    kv.undefined.update(request.blocks)
    assert kv.step(engine, [kv.request("b", 2, (20, 21, 22, 23))]) == frozenset()
    assert len(watched.calls) == calls + 2


def test_a_call_that_fails_as_a_whole_fails_all_its_chunks(kv: SmallKV, make: MakeEngine) -> None:
    request = kv.request("a", 5, range(10))

    def refuse(call: Call) -> None:
        if request.chunks[2] in {read.key for read in call.reads}:
            raise StoreUnavailable("the store is gone; start it again")

    engine = make("chunkwise:batch=2", WatchedStore(kv.store, refuse))
    assert kv.step(engine, [request], request.chunks[2:4]) == {4, 5, 6, 7}


@pytest.mark.parametrize("text", ["pool=-1", "pool=1025", "pool=few", "batch=0", "staged=perhaps", "depth=2"])
def test_bad_options_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text.split("=")[0]):
        parse_arm(f"chunkwise:{text}")
