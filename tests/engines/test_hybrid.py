"""Hybrid: how much of a hit it takes by its options and by what it has seen, and what it says of its loads."""

from pathlib import Path

import pytest
from gates import MakeEngine
from hypothesis import given
from hypothesis import strategies as st
from late_steps import small

from harness.connector.settings import parse_arm
from harness.core.errors import UsageError
from harness.core.recurrence import Link, Step, predict_layerwise
from harness.core.spans import Recorder
from harness.engines.base import Offer, Seen
from harness.engines.hybrid import Hybrid, HybridOptions
from harness.stores import open_store
from harness.testing.engines import EngineTests
from harness.testing.late_device import LateDevice
from harness.testing.small_kv import SmallKV

CHUNK = 256


class TestHybrid(EngineTests):
    engine = Hybrid


class TestHybridInGroups(EngineTests):
    engine = Hybrid
    options = {"k": 2, "groups": "3", "readers": 3}


class TestHybridOnALateDevice(EngineTests):
    engine = Hybrid
    options = {"share": 0.5, "depth": 2}
    device = "late"


def taken(spec: str, chunks: int, seen: tuple[Seen, ...] = ()) -> int:
    arm = parse_arm(spec)
    return arm.engine.choose(arm.options, Offer(chunks, CHUNK, chunks * CHUNK + 32, seen)).chunks


@pytest.mark.parametrize(("k", "chunks", "wanted"), [(1, 8, 1), (3, 8, 3), (8, 8, 8), (9, 8, 8), (3, 1, 1)])
def test_k_chunks_or_all_where_the_hit_has_fewer(k: int, chunks: int, wanted: int) -> None:
    assert taken(f"hybrid:k={k}", chunks) == wanted


@pytest.mark.parametrize(("share", "chunks", "wanted"), [("0.5", 8, 4), ("0.25", 8, 2), ("0.1", 3, 1), ("1", 7, 7)])
def test_a_share_is_whole_chunks_and_one_at_least(share: str, chunks: int, wanted: int) -> None:
    assert taken(f"hybrid:share={share}", chunks) == wanted


def test_only_the_choice_by_cost_depends_on_what_was_seen() -> None:
    adapting = {
        spec: Hybrid.adapts(parse_arm(spec).options) for spec in ("hybrid", "hybrid:k=cost", "hybrid:k=2", "hybrid:share=1")
    }
    assert adapting == {"hybrid": True, "hybrid:k=cost": True, "hybrid:k=2": False, "hybrid:share=1": False}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("k=3,share=0.5", "k=3 and share=0.5 both say how much is loaded; give one of them"),
        ("k=0", "k='0'"),
        ("k=some", "k='some'"),
        ("share=1.5", "share='1.5'"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(options: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arm(f"hybrid:{options}")
    assert text in str(caught.value)


def shown(chunks: int, load: float, compute: float, hit: int, start: float = 0.0) -> Seen:
    """A load of ``chunks`` of ``hit`` chunks, at so many seconds per chunk and per token."""
    tokens = (hit - chunks) * CHUNK + 32
    return Seen(chunks, load * chunks, start + compute * tokens, tokens)


def test_first_all_then_half_and_then_what_ends_together() -> None:
    assert taken("hybrid", 8) == 8
    first = shown(8, 0.1, 0.001, 8)
    assert taken("hybrid", 8, (first,)) == 4
    assert taken("hybrid", 1, (first,)) == 1
    # 0.1 s per chunk loaded, 0.256 s per chunk computed, 0.032 s for the suffix: 6 load in 0.6 s, the rest takes 0.544 s.
    assert taken("hybrid", 8, (first, shown(4, 0.1, 0.001, 8))) == 6


def test_the_forwards_fixed_cost_is_not_taken_for_the_cost_of_tokens() -> None:
    """32 tokens in 0.132 s look like 4 ms per token; computing 1,024 more shows that it is 1 ms."""
    seen = (shown(8, 0.3, 0.001, 8, start=0.1), shown(4, 0.3, 0.001, 8, start=0.1))
    assert taken("hybrid", 8, seen) == 4  # 1.2 s against 1.156 s


@given(hit=st.integers(2, 64), load=st.floats(1e-4, 1), compute=st.floats(1e-6, 1e-2), start=st.floats(0, 1))
def test_with_exact_times_the_choice_is_the_best_there_is(hit: int, load: float, compute: float, start: float) -> None:
    seen = tuple(shown(k, load, compute, hit, start) for k in (hit, hit // 2))
    k = taken("hybrid", hit, seen)
    slower = {n: max(load * n, start + compute * ((hit - n) * CHUNK + 32)) for n in range(1, hit + 1)}
    assert 1 <= k <= hit
    assert slower[k] <= min(slower.values()) * (1 + 1e-6)


times = st.floats(0, 100, allow_nan=False)


@given(
    chunks=st.integers(1, 100),
    seen=st.lists(st.builds(Seen, st.integers(1, 100), times, times, st.integers(1, 10_000)), max_size=20),
)
def test_whatever_was_seen_it_takes_one_chunk_at_least_and_all_at_most(chunks: int, seen: list[Seen]) -> None:
    assert 1 <= taken("hybrid", chunks, tuple(seen)) <= chunks


def test_one_that_stalled_once_is_not_believed() -> None:
    seen = [shown(k, 0.1, 0.001, 8) for k in (8, 4) for _ in range(3)]
    assert taken("hybrid", 8, (*seen, Seen(8, 60.0, 0.032, 32))) == 6


def test_it_says_how_long_its_last_load_took(kv: SmallKV, make: MakeEngine) -> None:
    engine = make("hybrid:readers=2")
    assert engine.saw() is None
    kv.step(engine, [kv.request("a", 2, range(4)), kv.request("b", 1, (6, 7))])
    seen = engine.saw()
    assert seen is not None
    assert seen.chunks == 3 and seen.load_s > 0 and seen.compute_s >= 0
    engine.begin_load([])
    assert engine.end_load() == frozenset()
    assert engine.saw() is None


def test_on_a_device_it_loads_all_since_the_hosts_clock_cannot_tell(tmp_path: Path) -> None:
    with open_store(f"file://{tmp_path}/kv") as store:
        device = small(store, LateDevice())
        engine = parse_arm("hybrid").engine(store, device.cache, HybridOptions(), Recorder())
        device.step(engine, [device.request("a", 1, (0, 1))])
        seen = engine.saw()
        assert seen is not None and not seen.timed
        assert taken("hybrid", 8, (seen,)) == 8
        engine.close()


BANDWIDTHS = (75, 150, 300, 600, 1200, 2400)
HIT, PER_TOKEN_S = 8, 0.195e-3


def of_model(chunks: int, mbps: int, fixed_s: float) -> tuple[float, Seen]:
    """TTFT by the recurrence with so many of the hit's chunks loaded, and what the engine would see of it."""
    tokens = (HIT - chunks) * CHUNK + 32
    link, layers, layer_bytes = Link(0.002, 300e6, mbps * 1e6), 24, CHUNK * 2048
    compute_s = fixed_s + PER_TOKEN_S * tokens
    ttft, load_s = (
        predict_layerwise(link, Step(chunks, layers, layer_bytes, work), readers=8, depth=layers, groups=4)
        for work in (compute_s, 0.0)
    )
    return ttft, Seen(chunks, load_s, compute_s, tokens)


@pytest.mark.parametrize("fixed_s", [0.0, 0.02, 0.08])
def test_in_the_model_it_is_within_5_percent_of_the_best_k_at_each_bandwidth(fixed_s: float) -> None:
    gains = []
    for mbps in BANDWIDTHS:
        seen: list[Seen] = []
        for _ in range(3):
            ttft, one = of_model(taken("hybrid", HIT, tuple(seen)), mbps, fixed_s)
            seen.append(one)
        fixed = [of_model(k, mbps, fixed_s)[0] for k in range(1, HIT + 1)]
        assert ttft <= 1.05 * min(fixed), f"{mbps} MB/s: {seen[-1].chunks} chunks"
        recompute = fixed_s + PER_TOKEN_S * (HIT * CHUNK + 32)
        gains.append(ttft / min(fixed[-1], recompute))
    assert min(gains) <= 0.8, "of the better of loading all and computing all"
