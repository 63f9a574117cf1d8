"""Groups of layers in the engine: which reads they make, and what 'auto' learns from the reads it sees."""

import pytest
from gates import LAYERS, MakeEngine, first_layer
from hypothesis import given
from hypothesis import strategies as st

from harness.connector.settings import parse_arm
from harness.core.errors import UsageError
from harness.core.recurrence import Step, best_groups
from harness.engines.groups import Chooser, doubling
from harness.engines.layerwise import Layerwise
from harness.testing.engines import EngineTests
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import WatchedStore


class TestLayerwiseInUnequalGroups(EngineTests):
    engine = Layerwise
    options = {"groups": "1+3+2", "depth": 2, "readers": 3}


class TestLayerwiseInGroupsOfItsOwnChoice(EngineTests):
    engine = Layerwise
    options = {"groups": "auto", "loops": 1}


@pytest.mark.parametrize(("groups", "firsts"), [("1+3+2", [0, 1, 4]), ("4", [0, 4]), ("6", [0]), ("99", [0])])
def test_one_read_of_a_chunk_fetches_a_group(kv: SmallKV, make: MakeEngine, groups: str, firsts: list[int]) -> None:
    watched = WatchedStore(kv.store)
    engine = make(f"layerwise:groups={groups},depth=6", watched)
    assert kv.step(engine, [kv.request("a", 3, range(6))]) == frozenset()
    assert sorted(first_layer(kv, call) for call in watched.calls) == sorted(firsts * 3)


def test_a_group_may_start_once_its_first_layer_may(kv: SmallKV, make: MakeEngine) -> None:
    watched = WatchedStore(kv.store)
    engine = make("layerwise:groups=1+3+2,depth=2", watched)
    engine.begin_load([kv.request("a", 1, (3, 4))])
    for layer, calls in enumerate((2, 2, 2, 3, 3, 3)):
        engine.wait_layer(layer)
        assert watched.wait_for(lambda n=calls: len(watched.calls) >= n)  # type: ignore[misc]
        assert len(watched.calls) <= calls
    assert engine.end_load() == frozenset()


def test_groups_that_do_not_add_up_are_refused(make: MakeEngine) -> None:
    with pytest.raises(UsageError, match=r"groups=2\+3 come to 5 layers, but the model has 6"):
        make("layerwise:groups=2+3")


@pytest.mark.parametrize("text", ["six", "0", "3+", "3+0", "automatic"])
def test_groups_that_no_model_has_are_refused_before_there_is_one(text: str) -> None:
    with pytest.raises(UsageError, match=f"groups={text.replace('+', chr(92) + '+')} is no number of layers"):
        parse_arm(f"layerwise:groups={text}")


def test_groups_are_given_once() -> None:
    with pytest.raises(UsageError, match="groups=2 and layers_per_fetch=3 say the same; give one of them"):
        parse_arm("layerwise:groups=2,layers_per_fetch=3")


@given(layers=st.integers(1, 200))
def test_the_first_groups_cover_all_layers_in_different_sizes(layers: int) -> None:
    sizes = doubling(layers)
    assert sum(sizes) == layers
    assert layers < 2 or len(set(sizes)) > 1 or layers == 2


def chooser(trip_s: float, bytes_per_s: float, layers: int = 24, layer_bytes: int = 500_000) -> Chooser:
    """One that has seen a load of 8 chunks by its first groups."""
    made = Chooser(layers, layer_bytes, readers=8, depth=24, batch=1)
    sizes = made.groups(8)
    calls = [(size * layer_bytes, trip_s + size * layer_bytes / bytes_per_s) for size in sizes for _ in range(8)]
    made.saw(calls, compute_s=0.1)
    return made


@given(trip=st.floats(0.0001, 0.05), rate=st.floats(1e8, 1e10))
def test_round_trip_and_bandwidth_are_found(trip: float, rate: float) -> None:
    link = chooser(trip, rate).link()
    assert link is not None
    assert link.latency_s == pytest.approx(trip, rel=0.01, abs=1e-6)
    assert link.stream_bytes_per_s == pytest.approx(rate, rel=0.01)


def test_a_read_that_stalls_now_and_then_changes_nothing() -> None:
    made = chooser(0.002, 3e8)
    before = made.link()
    made.saw([(500_000, 3.0), (1_000_000, 2.0), (4_000_000, 2.5)], compute_s=0.1)
    assert made.link() == before


def test_the_choice_is_the_recurrences() -> None:
    made = chooser(0.02, 3e8)
    link = made.link()
    assert link is not None
    assert made.groups(8) == best_groups(link, Step(8, 24, 500_000, 0.1), 8, 24)
    assert len(made.groups(8)) < len(chooser(0.0001, 3e8).groups(8))


def test_what_has_no_bandwidth_to_see_has_a_round_trip() -> None:
    """A store in memory: larger reads take no longer."""
    made = chooser(0.001, 1e15)
    assert sum(made.groups(8)) == 24


def test_the_engine_learns_from_its_own_reads(kv: SmallKV, make: MakeEngine) -> None:
    watched = WatchedStore(kv.store)
    engine = make("layerwise:groups=auto,depth=6", watched)
    seen = []
    for number in range(3):
        watched.calls.clear()
        assert kv.step(engine, [kv.request(f"r{number}", 2, (3, 4, 9, 8))]) == frozenset()
        seen.append(sorted({first_layer(kv, call) for call in watched.calls}))
    assert seen[0] == [0, 1, 3]
    link = engine._chooser.link()  # type: ignore[attr-defined]
    assert link is not None
    assert link.latency_s >= 0
    assert all(firsts[0] == 0 and firsts[-1] < LAYERS for firsts in seen)
