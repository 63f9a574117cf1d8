"""The signed-rank interval: exact distribution, coverage by simulation, and its limits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import interval, lower_bound, pseudomedian, upper_bound
from harness.stats import location as under_test
from harness.stats.location import distribution_free, signed_rank_cdf

samples = st.lists(st.floats(-10, 10, allow_nan=False), min_size=2, max_size=40)


@pytest.mark.parametrize("n", range(1, 9))
def test_distribution_is_the_enumerated_one(n: int) -> None:
    sums = [sum(ranks) for k in range(n + 1) for ranks in itertools.combinations(range(1, n + 1), k)]
    expected = [np.mean(np.array(sums) <= w) for w in range(n * (n + 1) // 2 + 1)]
    assert signed_rank_cdf(n) == pytest.approx(expected)


@settings(deadline=None)
@given(samples, st.floats(-5, 5), st.floats(0.001, 0.3))
def test_ordered_and_equivariant(values: list[float], shift: float, alpha: float) -> None:
    found = interval(values, alpha)
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    moved = interval(np.array(values) + shift, alpha)
    assert (moved.low, moved.value, moved.high) == pytest.approx(
        (found.low + shift, found.value + shift, found.high + shift), abs=1e-6
    )
    mirrored = interval(-np.array(values), alpha)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-6)


@settings(deadline=None)
@given(samples, st.floats(1e-4, 0.4), st.floats(1e-4, 0.4))
def test_more_certainty_is_never_narrower(values: list[float], one: float, other: float) -> None:
    strict, loose = sorted((one, other))
    assert lower_bound(values, strict) <= lower_bound(values, loose) + 1e-9
    assert upper_bound(values, strict) >= upper_bound(values, loose) - 1e-9


@pytest.mark.parametrize("n", [4, 6, 8, 12])
@pytest.mark.parametrize("tails", ["normal", "t3"])
def test_coverage(n: int, tails: str) -> None:
    generator = np.random.default_rng(7)
    draw = generator.standard_normal((8000, n)) if tails == "normal" else generator.standard_t(3, (8000, n))
    covered = np.mean((lower_bound(draw, 0.025) <= 0) & (upper_bound(draw, 0.025) >= 0))
    assert 0.94 < covered < 0.97


def test_one_outlier_of_twelve_hardly_matters() -> None:
    clean = np.linspace(-0.02, 0.02, 12)
    spoilt = clean.copy()
    spoilt[-1] = 5.0
    assert interval(spoilt).high < 0.03
    assert interval(spoilt).value == pytest.approx(interval(clean).value, abs=0.005)


def test_one_value_says_nothing_and_equal_values_say_all() -> None:
    alone = interval([0.3])
    assert (alone.value, alone.low, alone.high) == (0.3, -np.inf, np.inf)
    same = interval([0.3] * 3)
    assert (same.low, same.high) == pytest.approx((0.3, 0.3))


def test_the_searched_average_is_the_sorted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(size=301)
    exact = pseudomedian(values)
    bound = lower_bound(values, 0.025)
    monkeypatch.setattr(under_test, "ALL_AVERAGES", 100)
    under_test._rank_of.cache_clear()
    assert pseudomedian(values) == pytest.approx(exact, abs=1e-12)
    assert lower_bound(values, 0.025) == pytest.approx(bound, abs=2e-3)
    under_test._rank_of.cache_clear()


def test_distribution_free_needs_enough_values() -> None:
    assert [distribution_free(n, 0.025) for n in (5, 6)] == [False, True]
