"""Loads that want the same chunk at a time read it once: the others copy it, and nobody copies what is no longer there."""

import threading

import pytest
from gates import Gates, MakeEngine

from harness.connector.settings import parse_arm
from harness.core.chunks import SKIP, LoadRequest
from harness.core.errors import UsageError
from harness.core.spans import Recorder
from harness.engines.base import BetweenSteps
from harness.testing.between_steps import released
from harness.testing.engines import within
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call, WatchedStore


def joined(kv: SmallKV, engine: BetweenSteps, *names: str) -> frozenset[int]:
    engine.join(names)
    failed = within(engine.end_load)
    kv.check_all()
    return failed


def made(kv: SmallKV, make: MakeEngine, spec: str, gates: Gates | None = None) -> tuple[BetweenSteps, WatchedStore, Recorder]:
    watched, recorder = WatchedStore(kv.store, gates.before if gates else None), Recorder()
    engine = make(spec, watched, recorder)
    assert isinstance(engine, BetweenSteps)
    return engine, watched, recorder


@pytest.mark.parametrize("early", [True, False], ids=["while it is read", "when it is there"])
@pytest.mark.parametrize("spec", ["deferred:reuse=true", "deferred:reuse=true,release=2,readers=2"])
def test_a_chunk_of_two_requests_is_read_once(kv: SmallKV, make: MakeEngine, spec: str, early: bool) -> None:
    gates = Gates(kv)
    engine, watched, recorder = made(kv, make, spec, gates)
    keys = kv.put("shared 0", "shared 1", "own")
    first, second = LoadRequest("a", keys[:2], (0, 1, 2, 3)), LoadRequest("b", keys, (9, 8, SKIP, 6, 21, 20))
    for request in (first, second):
        kv.expect(request)
    if not early:
        gates.open(*range(6))
    engine.begin_between([first])
    if not early:
        released(engine, 1)
        assert watched.wait_for(lambda: watched.under_way == 0)
    engine.begin_between([second])
    gates.open(*range(6))
    released(engine, 1 + early)
    assert joined(kv, engine, "a", "b") == frozenset()
    groups = 3 if "release=2" in spec else 1
    assert len(watched.calls) == 3 * groups
    spans = recorder.take()
    assert sum(span.kind == "copy" and span.request == "b" for span in spans) == 2 * groups
    assert sum(span.kind == "fetch" and span.request == "b" for span in spans) == groups


def test_who_can_copy_does_not_wait_behind_who_has_to_read(kv: SmallKV, make: MakeEngine) -> None:
    """By the time that its turn came, those that it shares chunks with would have computed and left."""
    own, held = kv.put("own 0", "own 1"), threading.Event()
    shared = kv.put("shared 0", "shared 1")

    def before(call: Call) -> None:
        if own[0] in call.reads[0].key:
            held.wait(20)

    watched = WatchedStore(kv.store, before)
    engine = make("deferred:reuse=true,readers=1", watched)
    assert isinstance(engine, BetweenSteps)
    requests = [
        LoadRequest("a", shared, (0, 1, 2, 3)),
        LoadRequest("b", own, (9, 8, 5, 6)),
        LoadRequest("c", shared, (10, 11, 12, 13)),
    ]
    for request in requests:
        kv.expect(request)
    engine.begin_between(requests)
    assert set(released(engine, 2)) == {"a", "c"}
    held.set()
    assert set(released(engine, 1)) == {"b"}
    assert joined(kv, engine, "a", "b", "c") == frozenset()
    assert len(watched.calls) == 4


def test_without_it_each_request_reads_for_itself(kv: SmallKV, make: MakeEngine) -> None:
    """What a comparison of engines should compare is the default."""
    engine, watched, _ = made(kv, make, "deferred")
    keys = kv.put("shared")
    engine.begin_between([LoadRequest("a", keys, (0, 1)), LoadRequest("b", keys, (9, 8))])
    released(engine, 2)
    assert len(watched.calls) == 2


def test_when_the_read_fails_the_others_try_for_themselves(kv: SmallKV, make: MakeEngine) -> None:
    """One may have failed by its own deadline."""
    gates = Gates(kv)
    tried: list[Call] = []

    def before(call: Call) -> None:
        gates.before(call)
        tried.append(call)
        if len(tried) == 1:
            raise RuntimeError("lost")

    watched = WatchedStore(kv.store, before)
    engine = make("deferred:reuse=true,readers=2", watched)
    assert isinstance(engine, BetweenSteps)
    keys = kv.put("shared")
    second = LoadRequest("b", keys, (9, 8))
    engine.begin_between([LoadRequest("a", keys, (0, 1)), second])
    gates.open(0)
    assert released(engine, 2) == {"a": frozenset({0, 1}), "b": frozenset()}
    kv.expect(second)
    kv.undefined |= {0, 1}
    assert joined(kv, engine, "b") == frozenset()


def test_blocks_that_are_given_away_are_copied_before_or_not_at_all(kv: SmallKV, make: MakeEngine) -> None:
    """The first request leaves while its chunk is read: who waits for that still gets it, who comes later reads it."""
    gates = Gates(kv)
    engine, watched, _ = made(kv, make, "deferred:reuse=true,readers=2", gates)
    keys = kv.put("shared")
    waits, late = LoadRequest("waits", keys, (9, 8)), LoadRequest("late", keys, (4, 5))
    engine.begin_between([LoadRequest("leaves", keys, (0, 1)), waits])
    assert watched.wait_for(lambda: watched.under_way == 1)
    engine.drop(["leaves"])
    engine.begin_between([late])
    assert watched.wait_for(lambda: watched.under_way == 2), "nobody copies from the blocks of one that has left"
    gates.open(0)
    within(lambda: engine.settle([0, 1]))
    for rows in kv.cache.rows.layers:
        rows[[0, 1]] = 7
    kv.wanted = [kv.contents(layer) for layer in range(kv.cache.geometry.layers)]
    kv.expect(waits)
    kv.expect(late)
    assert released(engine, 3) == dict.fromkeys(("leaves", "waits", "late"), frozenset())
    assert joined(kv, engine, "waits", "late") == frozenset()


def test_what_has_computed_is_not_copied(kv: SmallKV, make: MakeEngine) -> None:
    engine, watched, _ = made(kv, make, "deferred:reuse=true")
    keys = kv.put("shared")
    first, second = LoadRequest("a", keys, (0, 1)), LoadRequest("b", keys, (9, 8))
    for request in (first, second):
        engine.begin_between([request])
        released(engine, 1)
        kv.expect(request)
        assert joined(kv, engine, request.request) == frozenset()
    assert len(watched.calls) == 2


@pytest.mark.parametrize("more", ["loops=1", "batch=2"])
def test_what_does_not_go_together_is_refused(more: str) -> None:
    with pytest.raises(UsageError, match="reuse=true works chunk by chunk in threads"):
        parse_arm(f"deferred:reuse=true,{more}")
