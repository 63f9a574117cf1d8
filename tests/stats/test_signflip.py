"""The test of "no change" against enumeration: what scipy gives is the exact sign-flip test of the ranks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from harness.stats.compare import EXACT_PAIRS, no_change


def test_six_pairs_all_slower_give_the_smallest_p() -> None:
    assert no_change(np.array([0.1, 0.2, 0.3, 0.15, 0.12, 0.11])) == pytest.approx(2 / 64)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=9, unique=True), st.integers(0, 99))
def test_it_is_the_enumerated_one(sizes: list[float], seed: int) -> None:
    values = np.array(sizes) * np.where(np.random.default_rng(seed).random(len(sizes)) < 0.5, -1, 1)
    ranks = rankdata(np.abs(values))
    sums = np.array([ranks @ np.array(heads) for heads in itertools.product((0, 1), repeat=len(values))])
    observed = float(ranks[values > 0].sum())
    expected = min(1.0, 2 * min(float(np.mean(sums >= observed)), float(np.mean(sums <= observed))))
    assert no_change(values) == pytest.approx(expected)


def test_many_pairs_agree_with_the_exact_ones() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, EXACT_PAIRS + 1)
    assert no_change(values) == pytest.approx(no_change(values[:-1]), abs=0.05)


def test_no_change_at_all() -> None:
    assert no_change(np.zeros(2)) == 1


def test_uniform_when_nothing_changed() -> None:
    draws = np.random.default_rng(3).normal(size=(2000, 8))
    assert np.mean([no_change(row) <= 0.05 for row in draws]) <= 0.05
