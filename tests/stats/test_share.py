"""Share of load hidden, the shift function, unpaired comparisons, and the sequential plan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.stats import Plan, compare, compare_unpaired, ratio_of_ratios, share_hidden, shift_function
from harness.stats.twosample import _rank_sum_cdf, shift_interval, shift_lower
from harness.testing.frames import make_frame

values = st.lists(st.floats(-5, 5).map(lambda value: round(value, 9)), min_size=2, max_size=12)
ARMS = {"chunkwise": 4.0, "layerwise": 1.15, "floor": 1.0}  # hides 2.85 / 3 = 0.95


def test_share_of_a_known_truth() -> None:
    found = share_hidden(make_frame(ARMS), "layerwise", "chunkwise", "floor")
    assert found.low is not None and found.value is not None and found.high is not None
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(0.95, abs=0.02)
    assert found.n_rounds == 8 and found.warnings == ()


def test_share_covers() -> None:
    inside = []
    for seed in range(40):
        found = share_hidden(make_frame(ARMS, seed=seed, run_noise=0.05), "layerwise", "chunkwise", "floor")
        assert found.low is not None and found.high is not None
        inside.append(found.low <= 0.95 <= found.high)
    assert 0.85 <= np.mean(inside) <= 0.99


def test_share_ends_at_the_arms_themselves() -> None:
    frame = make_frame(ARMS)
    assert share_hidden(frame, "chunkwise", "chunkwise", "floor").value == pytest.approx(0, abs=1e-6)
    assert share_hidden(frame, "floor", "chunkwise", "floor").value == pytest.approx(1)


def test_no_load_to_hide() -> None:
    found = share_hidden(make_frame({"chunkwise": 1, "layerwise": 1, "floor": 1}), "layerwise", "chunkwise", "floor")
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "chunkwise is not slower than floor beyond chance" in str(found.warnings[0])
    assert share_hidden(make_frame(ARMS, pairs=1), "layerwise", "chunkwise", "floor").value is None


def test_share_needs_its_arms() -> None:
    with pytest.raises(UsageError, match="unknown arm 'flor'"):
        share_hidden(make_frame(ARMS), "layerwise", "chunkwise", "flor")


def test_shift_function_sees_the_tail() -> None:
    frame = make_frame({"a": 1.0, "b": 1.0}, pairs=10, prompts=100)
    slow = (frame["arm"] == "b") & (frame.groupby("run")["ttft_s"].rank(pct=True) > 0.75)
    frame.loc[slow, "ttft_s"] *= 1.5
    found = shift_function(frame, "a", "b")
    assert found.quantiles[0] == "p10" and found.quantiles[-1] == "p90"
    assert found.lows[0] < 1 < found.highs[0]
    assert found.lows[-1] > 1.3
    assert all(low <= ratio <= high for low, ratio, high in zip(found.lows, found.ratios, found.highs, strict=True))


def test_shift_intervals_hold_together() -> None:
    inside = []
    for seed in range(40):
        found = shift_function(make_frame({"a": 1.0, "b": 1.1}, prompts=30, seed=seed), "a", "b")
        inside.append(all(low <= 1.1 <= high for low, high in zip(found.lows, found.highs, strict=True)))
    assert np.mean(inside) >= 0.85


def test_shift_needs_pairs() -> None:
    with pytest.raises(UsageError, match="at least 3 pairs of runs, there are 2"):
        shift_function(make_frame({"a": 1, "b": 1}, pairs=2), "a", "b")
    warnings = shift_function(make_frame({"a": 1, "b": 1}, pairs=6), "a", "b").warnings
    assert any("6 pairs are few" in text for text in map(str, warnings))


def test_two_stored_runs_say_that_they_are_apart() -> None:
    old, new = make_frame({"a": 1.0}, seed=1), make_frame({"a": 1.1}, seed=2)
    (found,) = compare_unpaired(old, "a", new, "a", ["p50"])
    assert found.unpaired and "share no rounds" in str(found.warnings[0])
    assert found.low < found.ratio < found.high


def test_ratio_of_ratios_cancels_the_machine() -> None:
    old = compare(make_frame({"floor": 1.0, "arm": 1.5}, seed=1), "floor", "arm", ["p50"])
    new = compare(make_frame({"floor": 1.0, "arm": 1.65}, seed=2, base_s=0.9), "floor", "arm", ["p50"])
    (found,) = ratio_of_ratios(new, old)
    assert found.low < 1.1 < found.high and found.low > 1
    assert found.base == "stored arm / floor"
    with pytest.raises(UsageError, match="the stored ratio has no metric 'p50'; it has none"):
        ratio_of_ratios(new, [])


def test_shift_interval_covers() -> None:
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(1500):
        found = shift_interval(generator.standard_t(3, 7), 0.5 + generator.standard_t(3, 9), 0.05)
        inside.append(found.low <= 0.5 <= found.high)
    assert 0.935 <= np.mean(inside) <= 0.965


@settings(deadline=None)
@given(values, values, st.floats(1e-5, 0.4), st.floats(1e-5, 0.4))
def test_more_certainty_is_never_narrower(ours: list[float], theirs: list[float], one: float, other: float) -> None:
    strict, loose = sorted((one, other))
    sides = np.array(ours), np.array(theirs)
    assert shift_lower(*sides, strict) <= shift_lower(*sides, loose) + 1e-9


def test_rank_sum_distribution_is_symmetric_and_whole() -> None:
    cdf = _rank_sum_cdf(5, 7)
    assert cdf[-1] == pytest.approx(1) and cdf[0] == pytest.approx(1 / 792)
    assert cdf[:-1] == pytest.approx(1 - cdf[::-1][1:])


def test_pocock_and_obrien_fleming_of_the_books() -> None:
    # Nominal levels of five equal looks at 0.05, two-sided (Jennison and Turnbull 2000, tables 2.1 and 2.3; spending
    # functions come close to, not onto, the original bounds).
    pocock = Plan((10, 20, 30, 40, 50), alpha=0.025).levels()
    assert pocock == pytest.approx([0.0158 / 2] * 5, abs=0.0008)
    fleming = Plan((10, 20, 30, 40, 50), alpha=0.025, spending="obrien-fleming").levels()
    assert fleming[0] < 1e-5 and fleming[-1] == pytest.approx(0.0413 / 2, abs=0.001)
    assert list(fleming) == sorted(fleming)
    assert Plan((8,)).levels() == pytest.approx((0.05,))


def test_a_plan_keeps_its_error_rate() -> None:
    plan = Plan((6, 12, 18), alpha=0.05)
    walks = np.cumsum(np.random.default_rng(0).standard_normal((100_000, 18)), axis=1)
    from scipy.stats import norm

    crossed = np.zeros(len(walks), dtype=bool)
    for look, level in zip(plan.looks, plan.levels(), strict=True):
        crossed |= walks[:, look - 1] / np.sqrt(look) > norm.isf(level)
    assert crossed.mean() == pytest.approx(0.05, abs=0.003)


def test_looks() -> None:
    plan = Plan((8, 12, 16))
    assert plan.level_at(9) is None and plan.level_at(8) == plan.levels()[0]
    assert (plan.next_look(0), plan.next_look(8), plan.next_look(16)) == (8, 12, None)


@pytest.mark.parametrize(
    ("looks", "more", "text"),
    [
        ((8, 8), {}, "growing"),
        ((), {}, "growing"),
        ((1, 4), {}, "at least 2"),
        ((8,), {"alpha": 0}, "alpha is 0"),
        ((8,), {"spending": "all"}, "unknown spending"),
    ],
)
def test_plans_that_are_none(looks: tuple[int, ...], more: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Plan(looks, **more)  # type: ignore[arg-type]
