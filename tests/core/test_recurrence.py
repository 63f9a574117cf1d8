"""The recurrence against its bounds, its limits and a hand-made timetable."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.recurrence import (
    Line,
    Link,
    Step,
    chunks_to_load,
    chunkwise_ttft,
    layerwise_ttft,
    predict_chunkwise,
    predict_layerwise,
)

seconds = st.floats(0, 10, allow_nan=False)
layers = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=40)
close = 1e-9


def split(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [load for load, _ in pairs], [compute for _, compute in pairs]


@settings(deadline=None)
@given(layers, st.integers(1, 50))
def test_bounds(pairs: list[tuple[float, float]], depth: int) -> None:
    load, compute = split(pairs)
    ttft = layerwise_ttft(load, compute, depth)
    assert ttft >= max(sum(load) + compute[-1], load[0] + sum(compute)) - close * (1 + ttft)
    assert ttft <= chunkwise_ttft(sum(load), sum(compute)) + close * (1 + ttft)


@settings(deadline=None)
@given(layers, st.integers(1, 49))
def test_more_depth_is_never_slower(pairs: list[tuple[float, float]], depth: int) -> None:
    load, compute = split(pairs)
    assert layerwise_ttft(load, compute, depth + 1) <= layerwise_ttft(load, compute, depth) + close


@settings(deadline=None)
@given(layers)
def test_depth_one_overlaps_nothing(pairs: list[tuple[float, float]]) -> None:
    load, compute = split(pairs)
    assert layerwise_ttft(load, compute, 1) == pytest.approx(chunkwise_ttft(sum(load), sum(compute)))


@settings(deadline=None)
@given(layers, st.integers(0, 39), st.floats(0, 5), st.integers(1, 8))
def test_a_slower_layer_never_helps(pairs: list[tuple[float, float]], place: int, more: float, depth: int) -> None:
    load, compute = split(pairs)
    slower = list(load)
    slower[place % len(load)] += more
    assert layerwise_ttft(slower, compute, depth) >= layerwise_ttft(load, compute, depth) - close


def test_hand_made_timetable() -> None:
    # loads end at 2, 4, then layer 2 waits for layer 0's compute (ends 5): 7; computes end at 5, 8, 11
    assert layerwise_ttft([2, 2, 2], [3, 3, 3], depth=2) == 11
    # load-bound: R = 4, 8, 12, and the last layer's compute
    assert layerwise_ttft([4, 4, 4], [1, 1, 1], depth=3) == 13
    assert layerwise_ttft([], [], depth=1) == 0


def test_uneven_layers_are_refused() -> None:
    with pytest.raises(UsageError, match="2 layers to load but 1 to compute"):
        layerwise_ttft([1, 2], [1], 1)
    with pytest.raises(UsageError, match="depth is 0"):
        layerwise_ttft([1], [1], 0)


LINK = Link(latency_s=0.002, stream_bytes_per_s=300e6)
STEP = Step(chunks=16, layers=24, layer_bytes=524_288, compute_s=0.240)


def test_chunkwise_pool_shares_the_chunks() -> None:
    one = 0.002 + 24 * 524_288 / 300e6
    assert predict_chunkwise(LINK, STEP) == pytest.approx(16 * one + 0.240)
    assert predict_chunkwise(LINK, STEP, pool=8) == pytest.approx(2 * one + 0.240)
    assert predict_chunkwise(LINK, STEP, pool=5) == pytest.approx(4 * one + 0.240)  # 16 calls, 5 at a time: 4 rounds
    assert predict_chunkwise(LINK, STEP, pool=99) == pytest.approx(one + 0.240)


def test_batches_save_latency_only() -> None:
    assert predict_chunkwise(LINK, STEP) - predict_chunkwise(LINK, STEP, batch=4) == pytest.approx(12 * 0.002)


def test_total_bandwidth_bounds_the_pool() -> None:
    narrow = Link(0.0, 300e6, total_bytes_per_s=600e6)
    size = 16 * 24 * 524_288
    assert predict_chunkwise(narrow, STEP, pool=16) == pytest.approx(size / 600e6 + 0.240)


def test_layerwise_hides_the_load_with_enough_readers() -> None:
    hidden = predict_layerwise(LINK, STEP, readers=8, depth=4)
    starved = predict_layerwise(LINK, STEP, readers=1, depth=4)
    one_layer = 2 * (0.002 + 524_288 / 300e6)
    assert hidden == pytest.approx(one_layer + 0.240)  # all but the first layer
    assert starved == pytest.approx(24 * 16 * (0.002 + 524_288 / 300e6) + 0.010)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 24), st.integers(1, 12), st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.5))
def test_predictions_stay_between_the_bounds(
    chunks: int, count: int, readers: int, depth: int, group: int, compute: float
) -> None:
    step = Step(chunks, count, 1_000_000, compute)
    ttft = predict_layerwise(LINK, step, readers, depth, group)
    serial = predict_chunkwise(LINK, Step(chunks * count, 1, 1_000_000, compute))
    assert compute < ttft <= serial + close
    assert predict_layerwise(LINK, step, readers, depth + 1, group) <= ttft + close


def test_equal_layers_give_the_recurrence() -> None:
    step = Step(chunks=4, layers=6, layer_bytes=3_000_000, compute_s=0.12)
    one_layer = 4 * (0.002 + 0.01)
    assert predict_layerwise(LINK, step, readers=1, depth=2) == pytest.approx(layerwise_ttft([one_layer] * 6, [0.02] * 6, 2))


def test_overhead_is_on_top() -> None:
    step = Step(16, 24, 524_288, 0.240, overhead_s=0.03)
    assert predict_chunkwise(LINK, step) == pytest.approx(predict_chunkwise(LINK, STEP) + 0.03)
    assert predict_layerwise(LINK, step, 8, 4) == pytest.approx(predict_layerwise(LINK, STEP, 8, 4) + 0.03)


def test_nothing_to_load_costs_nothing() -> None:
    assert predict_layerwise(LINK, Step(0, 4, 10, 0.1), 2, 2) == pytest.approx(0.1)
    with pytest.raises(UsageError, match="readers is 0"):
        predict_layerwise(LINK, STEP, 0, 1)


def test_many_layers_speed_up_as_the_closed_form_says() -> None:
    """Load over compute a, and layerwise load over chunkwise load b: (1 + a) / max(1, b * a)."""
    count = 4000
    compute = [1 / count] * count
    for a in (0.2, 1.0, 3.0):
        for b in (1.0, 1.3):
            exact = chunkwise_ttft(a, 1.0) / layerwise_ttft([a * b / count] * count, compute, count)
            assert exact == pytest.approx((1 + a) / max(1, b * a), rel=1e-3)


@given(st.integers(1, 60), seconds, seconds, seconds, st.floats(0, 0.01))
def test_no_other_number_of_chunks_ends_earlier(chunks: int, trip: float, each: float, start: float, token: float) -> None:
    load, compute = Line(trip, each), Line(start, token)
    times = {k: max(trip + each * k, start + token * (16 * (chunks - k) + 5)) for k in range(1, chunks + 1)}
    chosen = chunks_to_load(chunks, 16, 16 * chunks + 5, load, compute)
    assert times[chosen] == min(times.values())
    assert all(times[k] > times[chosen] for k in range(chosen + 1, chunks + 1)), "of equal ones the one that computes less"


def test_without_chunks_there_is_nothing_to_choose() -> None:
    with pytest.raises(UsageError, match="chunks is 0"):
        chunks_to_load(0, 16, 5, Line(0, 1), Line(0, 1))
