"""The sign-flip test against enumeration and scipy."""

import itertools
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from harness.stats import holm, sign_flip

STATISTICS: tuple[Literal["ranks", "mean"], ...] = ("ranks", "mean")


def test_six_pairs_all_slower_give_the_smallest_p() -> None:
    for statistic in STATISTICS:
        found = sign_flip([0.1, 0.2, 0.3, 0.15, 0.12, 0.11], statistic)
        assert (found.greater, found.less, found.two_sided) == pytest.approx((1 / 64, 1, 2 / 64))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=7))
def test_enumeration_with_ties_and_zeros(whole: list[int]) -> None:
    values = np.array(whole, dtype=float)
    flips = [np.abs(values) @ np.array(signs) for signs in itertools.product((-1, 1), repeat=len(values))]
    assert sign_flip(values, "mean").greater == pytest.approx(np.mean(np.array(flips) >= values.sum() - 1e-9))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.001, 5), min_size=2, max_size=25, unique=True), st.integers(0, 99))
def test_ranks_are_scipys_wilcoxon(sizes: list[float], seed: int) -> None:
    signs = np.where(np.random.default_rng(seed).random(len(sizes)) < 0.5, -1, 1)
    values = np.array(sizes) * signs
    for ours, side in ((sign_flip(values).greater, "greater"), (sign_flip(values).less, "less")):
        assert ours == pytest.approx(float(wilcoxon(values, alternative=side, method="exact").pvalue))


def test_many_pairs_agree_with_the_exact_ones() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 21)  # drawn, not enumerated
    drawn = sign_flip(values, "mean", seed=5)
    left_out = sign_flip(values[:20], "mean")
    assert drawn == sign_flip(values, "mean", seed=5)
    assert drawn.greater == pytest.approx(left_out.greater, abs=0.1)
    long = np.random.default_rng(2).normal(0.1, 1, 400)
    assert sign_flip(long).greater == pytest.approx(float(wilcoxon(long, alternative="greater").pvalue), rel=0.02)


def test_no_change_at_all() -> None:
    assert sign_flip([0.0, 0.0]).two_sided == 1


def test_uniform_when_nothing_changed() -> None:
    draws = np.random.default_rng(3).normal(size=(2000, 8))
    small = np.mean([sign_flip(row).two_sided <= 0.05 for row in draws])
    assert small <= 0.05


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_itself_and_bonferroni(values: list[float]) -> None:
    for raw, adjusted in zip(values, holm(values), strict=True):
        assert raw <= adjusted <= min(1, len(values) * raw) + 1e-12
