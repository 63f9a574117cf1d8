"""The deferred engine: when requests are released, whose calls come first, what fails when, and who is dropped."""

import pytest
from gates import LAYERS, Gates, MakeEngine, first_layer

from harness.connector.settings import parse_arm
from harness.core.chunks import ChunkKey, LoadRequest
from harness.core.errors import UsageError
from harness.engines.base import BetweenSteps, Choice, Offer, Released
from harness.engines.deferred import Deferred
from harness.testing.between_steps import BetweenStepsTests, released
from harness.testing.engines import within
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call, WatchedStore


class TestDeferred(BetweenStepsTests):
    engine = Deferred


class TestDeferredAfterTwoLayers(BetweenStepsTests):
    engine = Deferred
    options = {"release": 2, "readers": 3, "order": "shortest", "reuse": True}


class TestDeferredLoopsInGroups(BetweenStepsTests):
    engine = Deferred
    options = {"release": 3, "groups": "1+5", "batch": 2, "loops": 2, "order": "deadline", "staged": True}


class TestDeferredOnALateDevice(BetweenStepsTests):
    engine = Deferred
    options = {"release": 2}
    device = "late"


def make_between(make: MakeEngine, spec: str, store: WatchedStore) -> BetweenSteps:
    engine = make(spec, store)
    assert isinstance(engine, BetweenSteps)
    return engine


def reaches_the_last_layer(kv: SmallKV, watched: WatchedStore, request: LoadRequest) -> bool:
    """Waits until a read of the request's last layer has begun."""

    def begun() -> bool:
        return any(call.reads[0].key in request.chunks and first_layer(kv, call) == LAYERS - 1 for call in watched.calls)

    return watched.wait_for(begun)


def test_all_of_a_hit_is_loaded_between_steps() -> None:
    assert Deferred.choose(parse_arm("deferred").options, Offer(7, 256, 2000)) == Choice(7, between_steps=True)


@pytest.mark.parametrize("readers", ["readers=8", "readers=8,loops=2"])
def test_a_request_is_released_after_its_first_layers_and_its_forward_waits_for_the_others(
    kv: SmallKV, make: MakeEngine, readers: str
) -> None:
    gates = Gates(kv)
    watched = WatchedStore(kv.store, gates.before)
    engine = make_between(make, f"deferred:release=2,groups=1,{readers}", watched)
    request = kv.request("a", 2, (4, 5, 8, 9))
    kv.expect(request)
    engine.begin_between([request])
    gates.open(0)
    assert watched.wait_for(lambda: watched.under_way == 8)
    assert not engine.released()
    gates.open(1)
    assert released(engine, 1) == {"a": frozenset()}
    engine.join(["a"])
    for layer in (0, 1):
        within(lambda layer=layer: engine.wait_layer(layer))  # type: ignore[misc]
        kv.check(layer)
    with pytest.raises(TimeoutError):
        within(lambda: engine.wait_layer(2), 0.05)
    gates.open(*range(2, LAYERS))
    for layer in range(2, LAYERS):
        within(lambda layer=layer: engine.wait_layer(layer))  # type: ignore[misc]
        kv.check(layer)
    assert engine.end_load() == frozenset()


def test_what_fails_after_the_release_is_told_at_the_end_of_the_step(kv: SmallKV, make: MakeEngine) -> None:
    """And what fails before it keeps the request until nothing more will come, so that vLLM may take its blocks."""
    gates = Gates(kv)
    bad: set[ChunkKey] = set()

    def before(call: Call) -> None:
        gates.before(call)
        if bad.intersection(read.key for read in call.reads):
            raise RuntimeError("lost")

    watched = WatchedStore(kv.store, before)
    engine = make_between(make, "deferred:release=1", watched)
    late = kv.request("late", 2, (4, 5, 8, 9))
    engine.begin_between([late])
    gates.open(0)
    released(engine, 1)
    assert watched.wait_for(lambda: watched.under_way == 8)
    bad.add(late.chunks[1])
    gates.open(*range(1, LAYERS - 1))
    assert reaches_the_last_layer(kv, watched, late)
    early = kv.request("early", 2, (14, 15, 18, 19))
    bad.add(early.chunks[0])
    engine.begin_between([early])
    assert reaches_the_last_layer(kv, watched, early)
    assert not engine.released(), "a read for it is under way"
    gates.open(LAYERS - 1)
    assert released(engine, 1) == {"early": frozenset({14, 15})}
    engine.join(["late", "early"])
    assert within(engine.end_load) == {8, 9}


@pytest.mark.parametrize(
    ("order", "served"),
    [("fifo", "long long short urgent"), ("shortest", "long short urgent long"), ("deadline", "long urgent long short")],
)
def test_whose_calls_come_first(kv: SmallKV, make: MakeEngine, order: str, served: str) -> None:
    """One reader is busy with the first call of the long one while the others come."""
    names: dict[ChunkKey, str] = {}
    gates = Gates(kv)
    watched = WatchedStore(kv.store, gates.before)
    engine = make_between(make, f"deferred:readers=1,order={order}", watched)
    for name, chunks, at, deadline_ms in (("long", 4, 0, 0), ("short", 1, 8, 0), ("urgent", 2, 10, 9_000)):
        request = kv.request(name, chunks, range(at, at + 2 * chunks))
        names |= dict.fromkeys(request.chunks, name)
        engine.begin_between([LoadRequest(name, request.chunks, request.blocks, deadline_ms=deadline_ms)])
        assert watched.wait_for(lambda: watched.under_way == 1)
    gates.open(0)
    released(engine, 3)
    calls = [names[call.reads[0].key] for call in watched.calls]  # type: ignore[index]
    assert " ".join(name for i, name in enumerate(calls) if not i or calls[i - 1] != name) == served.replace("long long", "long")


def test_released_requests_come_before_all_others(kv: SmallKV, make: MakeEngine) -> None:
    """The forward of one that is released may wait for it, and with it everybody in its step."""
    gates = Gates(kv)
    watched = WatchedStore(kv.store, gates.before)
    engine = make_between(make, "deferred:release=3,order=shortest,readers=1", watched)
    first, second = kv.request("first", 4, range(8)), kv.request("second", 1, (10, 11))
    engine.begin_between([first])
    gates.open(0)
    released(engine, 1)
    assert watched.wait_for(lambda: watched.under_way == 1)
    engine.begin_between([second])
    gates.open(3)
    released(engine, 1)
    engine.join(["first", "second"])
    within(engine.end_load)
    assert [call.reads[0].key for call in watched.calls][:8] == [*first.chunks] * 2


def test_all_requests_together_have_as_many_calls_as_readers(kv: SmallKV, make: MakeEngine) -> None:
    watched = WatchedStore(kv.store)
    engine = make_between(make, "deferred:readers=2", watched)
    engine.begin_between([kv.request(str(i), 2, range(4 * i, 4 * i + 4)) for i in range(6)])
    released(engine, 6)
    assert watched.most_under_way <= 2


def test_a_dropped_request_begins_no_read_and_its_blocks_are_waited_for(kv: SmallKV, make: MakeEngine) -> None:
    gates = Gates(kv)
    watched = WatchedStore(kv.store, gates.before)
    engine = make_between(make, "deferred:readers=2", watched)
    engine.begin_between([kv.request("a", 5, range(10))])
    assert watched.wait_for(lambda: watched.under_way == 2)
    engine.drop(["a"])
    within(lambda: engine.settle([20, 21]))
    with pytest.raises(TimeoutError):
        within(lambda: engine.settle([3]), 0.05)
    assert not engine.released(), "its blocks are not free yet"
    gates.open(0)
    within(lambda: engine.settle([3]))
    assert engine.released() == [Released("a")]
    assert len(watched.calls) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("release=0", "release"),
        ("release=some", "release"),
        ("order=last", "order"),
        ("groups=auto", "groups=auto is for loads within a step"),
        ("loops=9", "loops=9 is more than readers=8"),
    ],
)
def test_bad_options_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_arm(f"deferred:{text}")


def test_more_layers_than_the_model_has_are_refused(kv: SmallKV, make: MakeEngine) -> None:
    with pytest.raises(UsageError, match="release=7 is more than the model's 6 layers; use release=all"):
        make("deferred:release=7")
