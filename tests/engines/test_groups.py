"""Groups of layers in the engine: which reads they make, and what 'auto' learns from the reads it sees."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from gates import LAYERS, MakeEngine, first_layer
from hypothesis import given
from hypothesis import strategies as st
from simulated_loads import LAYERS as LAYERS_OF_WORLD
from simulated_loads import Learning, World

from harness.connector.settings import parse_arm
from harness.core.errors import UsageError
from harness.core.recurrence import Link, equal_groups
from harness.engines.base import Calls, Offer, Seen
from harness.engines.groups import doubling, groups_by
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


def test_the_option_of_earlier_versions_says_what_it_is_called_now() -> None:
    with pytest.raises(UsageError, match=r"'layers_per_fetch' of engine 'layerwise' is now called 'groups'; write groups=3$"):
        parse_arm("layerwise:layers_per_fetch=3")


@given(layers=st.integers(1, 200))
def test_the_first_groups_cover_all_layers_in_different_sizes(layers: int) -> None:
    sizes = doubling(layers)
    assert sum(sizes) == layers
    assert layers < 2 or len(set(sizes)) > 1 or layers == 2


OFFER = Offer(8, 256, 8 * 256 + 32, layers=24, layer_bytes=500_000)
AUTO = parse_arm("layerwise:groups=auto,depth=24")


def load(trip_s: float, bytes_per_s: float, groups: Sequence[int], compute_s: float = 0.1, tokens: int = 32) -> Seen:
    """A load of 8 chunks in ``groups`` from a store like that, as the engine would tell of it."""
    calls = tuple(Calls(size * 500_000, 8, trip_s + size * 500_000 / bytes_per_s, 8) for size in sorted(set(groups)))
    load_s = sum(trip_s + size * 500_000 / bytes_per_s for size in groups)
    return Seen(8, load_s, compute_s, tokens, groups=tuple(groups), calls=calls)


def chosen(*seen: Seen) -> tuple[int, ...]:
    return groups_by(AUTO.engine.choose(AUTO.options, replace(OFFER, seen=seen)).how, 24)


def test_before_anything_is_seen_the_sizes_differ() -> None:
    choice = AUTO.engine.choose(AUTO.options, OFFER)
    assert (choice.chunks, groups_by(choice.how, 24)) == (8, doubling(24))
    assert choice.why.startswith("nothing is known yet")


def test_after_a_few_loads_the_choice_is_nearly_the_best_of_all_there_are() -> None:
    """The first loads show round trips; how much goes through at once shows when fewer and larger reads are made. In a few of the
    worlds six loads are too few for that."""
    lot, over = Random(7), []
    for _ in range(60):
        trip, stream, total = 10 ** lot.uniform(-4, -1.3), 10 ** lot.uniform(8, 9.3), 10 ** lot.uniform(8.3, 10)
        world = World(Link(trip, stream, total))
        best = min(world.ttft(8, equal_groups(size, LAYERS_OF_WORLD)) for size in range(1, LAYERS_OF_WORLD + 1))
        over.append(Learning(AUTO, world).serve(6) / best)
    over.sort()
    assert (over[30] <= 1.03, over[45] <= 1.15, over[54] <= 1.35) == (True, True, True), over


def test_a_read_that_stalls_now_and_then_changes_nothing() -> None:
    calm = load(0.002, 3e8, doubling(24))
    assert chosen(calm, calm, load(3.0, 3e8, doubling(24))) == chosen(calm)


def test_a_longer_round_trip_makes_fewer_groups() -> None:
    assert len(chosen(load(0.02, 3e8, doubling(24)))) < len(chosen(load(0.0001, 3e8, doubling(24))))


def test_what_has_no_bandwidth_to_see_has_a_round_trip() -> None:
    """A store in memory: larger reads take no longer."""
    assert sum(chosen(load(0.001, 1e15, doubling(24)))) == 24


@pytest.mark.parametrize(("how", "groups"), [("", (1, 2, 4, 5)), ("chunkwise:pool=8", (12,)), ("hybrid:k=2,groups=5", (5, 5, 2))])
def test_what_was_chosen_is_written_as_an_arm(how: str, groups: tuple[int, ...]) -> None:
    assert groups_by(how, 12) == groups


def test_the_engine_loads_as_it_is_told_and_tells_what_it_saw(kv: SmallKV, make: MakeEngine) -> None:
    watched = WatchedStore(kv.store)
    engine = make("layerwise:groups=auto,depth=6", watched)
    firsts, seen = [], []
    for number, how in enumerate(["", "layerwise:groups=4", "chunkwise:pool=8"]):
        watched.calls.clear()
        request = replace(kv.request(f"r{number}", 2, (3, 4, 9, 8)), how=how)
        assert kv.step(engine, [request]) == frozenset()
        firsts.append(sorted({first_layer(kv, call) for call in watched.calls}))
        seen.append(engine.saw())
    assert firsts == [[0, 1, 3], [0, 4], [0]]
    told = [one for one in seen if one is not None]
    assert [(one.how, one.groups) for one in told] == [
        ("", (1, 2, 3)), ("layerwise:groups=4", (4, 2)), ("chunkwise:pool=8", (LAYERS,)),
    ]  # fmt: skip
    assert [sum(call.count for call in one.calls) for one in told] == [6, 4, 2]
    assert [one.beside for one in told] == [4, 2, 0]
    assert all(call.seconds > 0 for one in told for call in one.calls)
    assert make("layerwise:depth=6", watched).saw() is None
