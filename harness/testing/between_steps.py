"""The conformance suite of engines that also load between steps: that of all engines, and what is theirs alone.

class TestMine(BetweenStepsTests):
    engine = Mine
"""

import time
from collections.abc import Iterable, Sequence

import pytest

from harness.core.chunks import ChunkKey, LoadRequest
from harness.engines.base import BetweenSteps, Engine
from harness.testing.engines import EngineTests, MakeEngine, within
from harness.testing.faults import FAULTS, spoil
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import WatchedStore


def released(engine: Engine, count: int) -> dict[str, frozenset[int]]:
    """The next ``count`` requests that the engine releases, each with its blocks that failed. Raises TimeoutError."""
    assert isinstance(engine, BetweenSteps)
    found: dict[str, frozenset[int]] = {}

    def ask() -> None:
        while len(found) < count:
            for one in engine.released():
                assert one.request not in found, "released twice"
                found[one.request] = one.failed
            time.sleep(0.001)

    within(ask)
    return found


def between(kv: SmallKV, engine: Engine, batch: Sequence[LoadRequest], lost: Iterable[ChunkKey] = ()) -> set[int]:
    """Load between steps, then one step that all of the batch compute in; returns the blocks that were named as failed."""
    assert isinstance(engine, BetweenSteps)
    lost = set(lost)
    kv.settle()
    for request in batch:
        kv.expect(request, lost)
    engine.begin_between(batch)
    found = released(engine, len(batch))
    assert set(found) == {request.request for request in batch}
    engine.join([request.request for request in batch])
    for layer in range(kv.cache.geometry.layers):
        engine.wait_layer(layer)
        kv.check(layer)
    late = engine.end_load()
    assert not late.intersection(*found.values()), "a failure was told twice"
    kv.check_all()
    assert not engine.released()
    return set(late).union(*found.values())


class BetweenStepsTests(EngineTests):
    """What an engine promises for the requests that it loads between steps."""

    def test_what_is_loaded_between_steps_is_in_place_in_the_step_that_it_joins(self, kv: SmallKV, make: MakeEngine) -> None:
        """Layer by layer, step after step, and nothing else is touched."""
        engine = make(kv)
        batch = [kv.request("a", 3, (31, 0, 7, 6, 20, 3)), kv.request("b", 1, (12, 30)), kv.request("empty", 0, ())]
        assert between(kv, engine, batch) == set()
        assert between(kv, engine, [kv.request("c", 2, (5, 1, 31, 0))]) == set()
        assert kv.step(engine, [kv.request("d", 1, (5, 7))]) == frozenset()

    @pytest.mark.parametrize("fault", FAULTS)
    def test_what_fails_between_steps_is_named_once(self, kv: SmallKV, make: MakeEngine, fault: str) -> None:
        """With the release, or at the end of the step that the request joins."""
        batch = [kv.request("a", 3, (31, 0, 7, 6, 20, 3)), kv.request("b", 2, (12, 30, 1, 2))]
        engine = make(kv)
        spoil(kv, batch[0].chunks[1], fault)
        assert between(kv, engine, batch, batch[0].chunks[1:2]) == {7, 6}
        assert between(kv, engine, [kv.request("c", 2, (9, 6, 7, 0))]) == set()

    def test_loads_of_both_kinds_meet_in_a_step(self, kv: SmallKV, make: MakeEngine) -> None:
        """One request joins, another is loaded within the step, a third goes on beside it."""
        engine = make(kv)
        assert isinstance(engine, BetweenSteps)
        joins, within_step, goes_on = (kv.request(name, 2, range(8 * i, 8 * i + 4)) for i, name in enumerate("abc"))
        for request in (joins, within_step, goes_on):
            kv.expect(request)
        engine.begin_between([joins])
        released(engine, 1)
        engine.begin_between([goes_on])
        engine.join(["a"])
        engine.begin_load([within_step])
        for layer in range(kv.cache.geometry.layers):
            engine.wait_layer(layer)
        assert engine.end_load() == frozenset()
        released(engine, 1)
        engine.join(["c"])
        assert engine.end_load() == frozenset()
        kv.check_all()

    def test_blocks_of_a_dropped_request_may_be_written_by_others(self, kv: SmallKV, make: MakeEngine) -> None:
        """It is released all the same, and once the blocks are settled nothing is read for it."""
        watched = WatchedStore(kv.store)
        engine = make(SmallKV(kv.cache, watched))
        assert isinstance(engine, BetweenSteps)
        engine.begin_between([kv.request("a", 5, range(10)), kv.request("b", 2, range(10, 14))])
        engine.drop(["a", "b", "unknown"])
        within(lambda: engine.settle(range(14)))
        assert watched.under_way == 0
        assert released(engine, 2) == {"a": frozenset(), "b": frozenset()}
        kv.settle()
        kv.wanted = [kv.contents(layer) for layer in range(kv.cache.geometry.layers)]
        assert between(kv, engine, [kv.request("a", 3, (1, 2, 3, 4, 5, 6))]) == set()
