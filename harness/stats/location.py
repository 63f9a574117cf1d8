"""Where a small sample of log ratios lies, and how sure that is: Hodges-Lehmann estimate and signed-rank interval.

Runs on small machines have outliers, and there are few of them. The signed-rank interval is exact
for every symmetric distribution whatever its tails, and one bad pair moves it little. The log ratio
of two exchangeable runs is symmetric when nothing changed, so the assumption holds where it matters.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student

from harness.stats.quantiles import Floats

ALL_AVERAGES = 400
"""Up to this many values all Walsh averages are kept; beyond it they are searched, to spare memory."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its bounds; infinite bounds if the sample says nothing."""

    value: float
    low: float
    high: float


def interval(values: npt.ArrayLike, alpha: float = 0.05) -> Interval:
    """Hodges-Lehmann estimate of ``values``, shape (n,), and its interval of level 1 - alpha."""
    sample = np.asarray(values, dtype=np.float64)
    low, high = float(lower_bound(sample, alpha / 2)), float(upper_bound(sample, alpha / 2))
    return Interval(float(pseudomedian(sample)), low, high)


def pseudomedian(values: npt.ArrayLike) -> Any:
    """The Hodges-Lehmann estimate along the last axis: the median of all Walsh averages (x_i + x_j)/2, i <= j.

    Hodges and Lehmann, Annals of Mathematical Statistics 34, 1963.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = sample.shape[-1]
    total = n * (n + 1) // 2
    if n > ALL_AVERAGES:
        return (_kth_average(sample, (total + 1) // 2) + _kth_average(sample, total // 2 + 1)) / 2
    return np.median(_averages(sample), axis=-1)


def lower_bound(values: npt.ArrayLike, level: float) -> Any:
    """The bound below which the location lies with probability ``level`` (one-sided), along the last axis.

    The k-th smallest Walsh average, k from the null distribution of the signed-rank statistic; between
    two neighbouring k the bound is interpolated, since the distribution of few pairs has few steps. Where
    ``level`` is below the smallest step, 1/2^n (fewer than 6 values at 0.025), Student's t takes over.
    One value says nothing: -inf.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = sample.shape[-1]
    if n < 2:
        return np.full(sample.shape[:-1], -np.inf)[()]
    if not distribution_free(n, level):
        spread = sample.std(axis=-1, ddof=1) / np.sqrt(n)
        # Never inside the smallest value, which is the bound at 2^-n: more certainty is never a narrower interval.
        return np.minimum(sample.mean(axis=-1) + student.ppf(level, n - 1) * spread, sample.min(axis=-1))
    k, part = _rank_of(n, level)
    if n > ALL_AVERAGES:
        return _kth_average(sample, k)
    averages = np.sort(_averages(sample), axis=-1)
    return averages[..., k - 1] + part * (averages[..., k] - averages[..., k - 1])


def upper_bound(values: npt.ArrayLike, level: float) -> Any:
    """The bound above which the location lies with probability ``level``; see ``lower_bound``."""
    return -lower_bound(-np.asarray(values, dtype=np.float64), level)


def distribution_free(n: int, level: float) -> bool:
    """Whether ``n`` values allow a one-sided bound at ``level`` without assuming a distribution."""
    return level >= 2.0**-n


@lru_cache(maxsize=512)
def signed_rank_cdf(n: int) -> Floats:
    """P(W <= w) for w = 0 .. n(n+1)/2, W the sum of those ranks 1..n whose fair coin shows heads."""
    mass: Floats = np.zeros(n * (n + 1) // 2 + 1)
    mass[0] = 1.0
    for rank in range(1, n + 1):
        heads = np.zeros_like(mass)
        heads[rank:] = mass[:-rank]
        mass = (mass + heads) / 2
    return np.cumsum(mass)


@lru_cache(maxsize=512)
def _rank_of(n: int, level: float) -> tuple[int, float]:
    """The k whose Walsh average is the bound, and the part of the way to the next one."""
    if n > ALL_AVERAGES:
        mean, spread = n * (n + 1) / 4, np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(1, int(mean + norm.ppf(level) * spread)), 0.0
    cdf = signed_rank_cdf(n)
    k = int(np.searchsorted(cdf, level * (1 + 1e-12), side="right"))
    return k, float((level - cdf[k - 1]) / (cdf[k] - cdf[k - 1])) if k < len(cdf) - 1 else 0.0


def _averages(sample: Floats) -> Floats:
    first, second = _pairs(sample.shape[-1])
    return np.asarray((sample[..., first] + sample[..., second]) / 2)


@lru_cache(maxsize=64)
def _pairs(n: int) -> Any:
    """All i <= j below n."""
    return np.triu_indices(n)


def _kth_average(sample: Floats, k: int) -> float:
    """The k-th smallest Walsh average of a long sample, shape (n,), by bisection over its value."""
    ordered = np.sort(sample)
    low, high = float(ordered[0]), float(ordered[-1])
    places = np.arange(len(ordered))
    while (middle := (low + high) / 2) not in (low, high):
        partners = np.searchsorted(ordered, 2 * middle - ordered, side="right") - places
        if int(np.maximum(partners, 0).sum()) >= k:
            high = middle
        else:
            low = middle
    return high
