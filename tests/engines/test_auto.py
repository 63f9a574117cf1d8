"""Auto: it tries each way once, then takes the one that is best in a world of which all is known, and says why."""

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from gates import MakeEngine
from hypothesis import given
from hypothesis import strategies as st
from simulated_loads import CHUNK, LAYER_BYTES, LAYERS, Learning, World

from harness.connector.settings import parse_arm
from harness.core.recurrence import Link
from harness.engines.auto import Auto
from harness.engines.base import Calls, Choice, Offer, Seen
from harness.engines.costs import Costs, fitted
from harness.engines.deferred import Deferred
from harness.testing.between_steps import BetweenStepsTests, between
from harness.testing.small_kv import SmallKV

STEADY = parse_arm("auto:explore=0")


class TestAuto(BetweenStepsTests):
    engine = Auto


class TestAutoByEventLoops(BetweenStepsTests):
    engine = Auto
    options = {"loops": 1, "batch": 2}


class TestAutoOnALateDevice(BetweenStepsTests):
    engine = Auto
    options = {"readers": 3}
    device = "late"


def ways(learning: Learning) -> list[str]:
    return [choice.how.partition(":")[0] for choice in learning.choices]


def test_each_way_is_tried_once_and_then_the_best_is_taken() -> None:
    learning = Learning(STEADY, World(Link(0.002, 300e6, 2400e6)))
    learning.serve(12)
    assert sorted(ways(learning)[:3]) == ["chunkwise", "hybrid", "layerwise"]
    assert set(ways(learning)[3:]) == {"layerwise"}
    assert [choice.chunks for choice in learning.choices if choice.how.startswith("hybrid")] == [4]
    assert learning.choices[0].how == "layerwise:depth=24,readers=8,groups=1+2+4+8+9"


GRID = list(product((0.0, 0.002, 0.008, 0.032), (75e6, 300e6, 2400e6), (32, 1024)))


def test_at_every_point_of_a_grid_it_is_within_a_few_percent_of_the_best_and_often_far_ahead_of_both_engines() -> None:
    beside_both = []
    for latency, total, suffix in GRID:
        world = World(Link(latency, 300e6, total), suffix=suffix)
        found = Learning(STEADY, world).serve(12)
        assert found <= 1.07 * world.best(), f"{latency} s, {total:.0f} bytes/s, {suffix} tokens"
        both = min(world.ttft(8, [LAYERS]), *(world.ttft(8, [size] * (LAYERS // size)) for size in (1, 2, 3, 4, 6, 8, 12)))
        beside_both.append(found / both)
    assert sum(ratio <= 0.85 for ratio in beside_both) >= 6
    assert max(beside_both) <= 1.05


def test_in_worlds_drawn_by_lot_it_comes_near_the_best() -> None:
    """150 of them, always the same; bandwidths, and what a read takes from the forward, over two orders of magnitude."""
    draw = random.Random(0)

    def between(low: float, high: float) -> float:
        return math.exp(draw.uniform(math.log(low), math.log(high)))

    ratios = []
    for _ in range(150):
        link = Link(draw.choice([0.0, between(1e-4, 0.03)]), between(5e7, 1e9), between(5e7, 4e9))
        world = World(link, draw.randint(2, 24), draw.randint(1, 2000), call_s=between(1e-6, 1e-3))
        ratios.append(Learning(STEADY, world).serve(10) / world.best())
    ratios.sort()
    assert ratios[len(ratios) // 2] <= 1.01
    assert ratios[int(0.95 * len(ratios))] <= 1.06
    assert ratios[-1] <= 1.25


def test_the_costs_of_a_known_store_and_model_are_found() -> None:
    world = World(Link(0.008, 300e6, 4e9))
    learning = Learning(STEADY, world)
    learning.serve(6)
    costs = fitted(learning.offer().seen)
    assert costs is not None and costs.link is not None and costs.compute is not None
    assert costs.link.latency_s == pytest.approx(0.008, rel=0.05)
    assert costs.link.stream_bytes_per_s == pytest.approx(300e6, rel=0.05)
    assert costs.link.total_bytes_per_s is not None
    assert costs.compute.start_s == pytest.approx(world.start_s, rel=0.01)
    assert costs.compute.each_s == pytest.approx(world.token_s, rel=0.01)
    assert costs.call_s == pytest.approx(world.call_s, rel=0.01)


def test_a_pipe_that_each_read_holds_for_a_while_is_seen_as_such() -> None:
    """As behind round trips of readers that are in step: a read takes longer than the bytes under way say, whatever its size."""
    sizes, rate, busy = (500_000, 1_000_000, 12_000_000), 150e6, 0.001
    calls = [Calls(size, 8, at_once * (busy + size / rate), at_once) for at_once in (4, 8) for size in sizes]
    all_bytes = sum(8 * call.bytes for call in calls)
    costs = fitted([Seen(8, all_bytes / rate, 0.1, 100, groups=(1,), calls=tuple(calls))])
    assert costs is not None and costs.link is not None
    assert costs.link.busy_s == pytest.approx(busy, rel=0.05)
    assert ", of which each takes 1 ms" in costs.in_words
    world = World(Link(0.0, 300e6, 150e6, busy), suffix=1024)
    assert Learning(STEADY, world).serve(12) <= 1.05 * world.best()


def test_one_cold_load_is_not_held_against_its_way() -> None:
    """The first forward of its length takes half as long again; the other ways would take 1.13 of the best for ever."""
    world = World(Link(0.002, 300e6, 150e6), suffix=1024, token_s=0.36e-3)
    learning = Learning(STEADY, world)
    while "hybrid" not in ways(learning):
        is_cold = STEADY.engine.choose(STEADY.options, learning.offer()).how.startswith("hybrid")
        learning.serve(1, late=1.5 if is_cold else 1)
    assert learning.serve(10) <= 1.05 * world.best()


def test_beside_other_requests_it_loads_between_steps_what_it_would_load_within() -> None:
    for total, least, most in ((2400e6, 8, 8), (75e6, 1, 7)):
        learning = Learning(STEADY, World(Link(0.002, 300e6, total)))
        learning.serve(8)
        alone = Auto.choose(STEADY.options, learning.offer())
        beside = Auto.choose(STEADY.options, replace(learning.offer(), others=3))
        assert not alone.between_steps
        assert (beside.between_steps, beside.chunks, beside.how) == (
            True,
            alone.chunks,
            "deferred:release=4,readers=8,reuse=true",
        )
        assert parse_arm(beside.how).engine is Deferred
        assert least <= beside.chunks <= most
        assert beside.why.startswith("3 other requests would wait for a load within a step; ")


def test_beside_others_it_still_learns_within_steps() -> None:
    """Only these show what a forward takes."""
    learning = Learning(parse_arm("auto:explore=1"), World(Link(0.002, 300e6, 2400e6)))
    for _ in range(6):
        choice = Auto.choose(learning.arm.options, replace(learning.offer(), others=3))
        assert not choice.between_steps
        learning.serve(1)


def test_reads_that_slow_the_forward_make_it_take_fewer() -> None:
    calls = []
    for call_s in (0.0, 0.002):
        learning = Learning(STEADY, World(Link(0.0005, 300e6, 2400e6), call_s=call_s))
        learning.serve(8)
        calls.append(sum(call.count for call in learning.world.seen(learning.choices[-1]).calls))
    assert calls[1] < calls[0]


def test_it_follows_a_store_that_becomes_slow() -> None:
    learning = Learning(parse_arm("auto"), World(Link(0.001, 300e6, 2400e6)))
    learning.serve(20)
    learning.world = World(Link(0.001, 30e6, 60e6))
    assert learning.serve(30) <= 1.1 * learning.world.best()
    assert learning.choices[-1].how.startswith("hybrid")


def test_one_load_that_stalls_changes_nothing() -> None:
    learning = Learning(STEADY, World(Link(0.002, 300e6, 300e6)))
    learning.serve(10)
    before = learning.choices[-1].how
    learning.serve(1, late=30)
    learning.serve(1)
    assert learning.choices[-1].how == before


@pytest.mark.parametrize(("explore", "least", "most"), [(0.0, 0, 0), (0.05, 5, 20), (0.5, 60, 140)])
def test_it_explores_its_share_and_nothing_that_takes_twice_as_long(explore: float, least: int, most: int) -> None:
    near = Learning(parse_arm(f"auto:explore={explore}"), World(Link(0.016, 300e6, 2400e6)))
    near.serve(203)
    tried = [choice for choice in near.choices[3:] if choice.why.startswith("tried again; ")]
    assert least <= len(tried) <= most
    far = Learning(parse_arm("auto:explore=1"), World(Link(0.0, 300e6, 30e6)))
    far.serve(30)
    assert Counter(ways(far)[3:]) == {"hybrid": 27}, "all else takes more than twice as long"


def test_the_same_requests_get_the_same_choices() -> None:
    runs = [Learning(parse_arm("auto:explore=0.3"), World(Link(0.004, 300e6, 900e6))) for _ in range(2)]
    for one in runs:
        one.serve(40)
    assert runs[0].choices == runs[1].choices


def test_the_reason_names_the_times_and_what_they_are_made_of() -> None:
    learning = Learning(STEADY, World(Link(0.002, 300e6, 2400e6)))
    learning.serve(5)
    assert learning.choices[0].why == "nothing is known yet; groups of different sizes show what a read takes"
    assert learning.choices[1].why == "the first load of its kind, to see what it takes"
    why = learning.choices[-1].why
    assert " ms expected, against " in why and " by chunkwise: a read takes " in why and " ms a token" in why


def test_a_single_chunk_has_no_part() -> None:
    learning = Learning(STEADY, World(Link(0.002, 300e6, 2400e6), chunks=1))
    learning.serve(8)
    assert {choice.chunks for choice in learning.choices} == {1}
    assert "hybrid" not in ways(learning)


def test_where_others_load_in_the_same_step_their_bytes_count() -> None:
    learning = Learning(STEADY, World(Link(0.008, 300e6, 300e6)))
    learning.serve(8)
    alone = Auto.choose(STEADY.options, learning.offer())
    beside = Auto.choose(STEADY.options, replace(learning.offer(), beside_chunks=24, beside_tokens=96))
    assert beside.chunks <= alone.chunks
    assert beside.why != alone.why


def test_what_does_not_fit_into_the_step_hides_no_load() -> None:
    """1,824 tokens computed in steps of 512: a load may hide behind the first step only, so less is left to compute."""
    learning = Learning(STEADY, World(Link(0.002, 300e6, 75e6)))
    learning.serve(8)
    costs = fitted(learning.offer().seen)
    assert costs is not None and costs.compute is not None
    whole = costs.step(learning.offer(), 1)
    pieces = costs.step(replace(learning.offer(), step_tokens=512), 1)
    assert whole.overhead_s == 0
    assert pieces.compute_s == pytest.approx(costs.compute.at(512))
    assert pieces.compute_s + pieces.overhead_s == pytest.approx(whole.compute_s + 3 * costs.compute.start_s)


def test_on_a_device_whose_forward_is_not_timed_it_loads_all() -> None:
    learning = Learning(STEADY, World(Link(0.002, 300e6, 75e6)))
    learning.serve(1)
    seen = [replace(one, timed=False) for one in learning.offer().seen]
    assert Auto.choose(STEADY.options, replace(learning.offer(), seen=seen)).chunks == 8


def test_without_a_geometry_it_takes_all() -> None:
    assert Auto.choose(STEADY.options, Offer(8, CHUNK, 3000)) == Choice(8)


times = st.floats(0, 100, allow_nan=False)
hows = st.sampled_from(["", "chunkwise:pool=8", "hybrid:k=2,groups=6", "layerwise:groups=1+2+4+8+9"])


@given(
    chunks=st.integers(1, 100),
    seen=st.lists(st.builds(Seen, st.integers(1, 100), times, times, st.integers(0, 10_000), times, hows), max_size=20),
)
def test_whatever_was_seen_it_takes_one_chunk_at_least_and_all_at_most(chunks: int, seen: list[Seen]) -> None:
    choice = Auto.choose(STEADY.options, Offer(chunks, CHUNK, chunks * CHUNK + 32, seen, LAYERS, LAYER_BYTES))
    assert 1 <= choice.chunks <= chunks


def test_the_hit_is_its_own_and_it_says_how_long_it_learns_and_what_it_explores() -> None:
    options = parse_arm("auto").options
    assert (Auto.adapts(options), Auto.learns(options), Auto.explores(options)) == (True, 3, 0.05)


def test_it_tells_what_its_loads_took(kv: SmallKV, make: MakeEngine) -> None:
    engine = make("auto:readers=2")
    kv.step(engine, [replace(kv.request("a", 2, range(4)), how="chunkwise:pool=2")])
    seen = engine.saw()
    assert seen is not None
    assert (seen.way, seen.groups, seen.beside) == ("chunkwise", (kv.cache.geometry.layers,), 0)


def test_a_step_with_loads_between_steps_alone_tells_nothing(kv: SmallKV, make: MakeEngine) -> None:
    """Least of all what an earlier load took, beside other tokens."""
    engine = make("auto:readers=2")
    kv.step(engine, [kv.request("a", 2, range(4))])
    assert engine.saw() is not None
    assert between(kv, engine, [kv.request("b", 2, range(8, 12))]) == set()
    assert engine.saw() is None


def test_rates_are_never_written_as_powers_of_ten() -> None:
    said = Costs(Link(0.0024, 315.4e6, 1_986e6), None, 0.0, None, 0.1).in_words
    assert said == "a read takes 2.4 ms, at 315 MB/s and 1,990 MB/s in all"
