"""Two samples without pairs: the shift between them, by the rank-sum distribution."""

from functools import lru_cache
from math import comb

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from harness.stats.location import Interval
from harness.stats.quantiles import Floats

EXACT = 40
"""Values per side up to which the distribution of the rank sum is formed."""
ALL_DIFFERENCES = 4_000_000
"""Differences formed at most (32 MiB); beyond that Welch's t is as good."""


def shift_interval(ours: Floats, theirs: Floats, alpha: float) -> Interval:
    """By how much ``theirs`` lies above ``ours``: Hodges-Lehmann's shift and its interval of level 1 - alpha."""
    value = (
        float(np.median(np.subtract.outer(theirs, ours)))
        if len(ours) * len(theirs) <= ALL_DIFFERENCES
        else float(theirs.mean() - ours.mean())
    )
    return Interval(value, shift_lower(ours, theirs, alpha / 2), -shift_lower(-ours, -theirs, alpha / 2))


def shift_lower(ours: Floats, theirs: Floats, level: float) -> float:
    """The one-sided lower bound of the shift: the k-th smallest difference, k from the rank-sum distribution.

    Interpolated between neighbouring k. Welch's t if there are too few values for ``level``, or very many;
    -inf if a side has one value only.
    """
    n, m = len(ours), len(theirs)
    if min(n, m) < 2:
        return -np.inf
    if n * m > ALL_DIFFERENCES:
        return _welch_lower(ours, theirs, level)
    if level < 1 / comb(n + m, n):
        # Never inside what a looser level gives, so that more certainty is never a narrower interval.
        return min(_welch_lower(ours, theirs, level), float(theirs.min() - ours.max()))
    differences = np.sort(np.subtract.outer(theirs, ours), axis=None)
    if max(n, m) > EXACT:
        k = max(1, int(n * m / 2 + norm.ppf(level) * np.sqrt(n * m * (n + m + 1) / 12)))
        return float(differences[k - 1])
    cdf = _rank_sum_cdf(n, m)
    k = int(np.searchsorted(cdf, level * (1 + 1e-12), side="right"))
    part = (level - cdf[k - 1]) / (cdf[k] - cdf[k - 1])
    return float(differences[k - 1] + part * (differences[k] - differences[k - 1]))


def _welch_lower(ours: Floats, theirs: Floats, level: float) -> float:
    n, m = len(ours), len(theirs)
    parts = np.array([ours.var(ddof=1) / n, theirs.var(ddof=1) / m])
    shift = float(theirs.mean() - ours.mean())
    if parts.sum() == 0:
        return shift
    freedom = parts.sum() ** 2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1))
    return shift + float(student.ppf(level, freedom)) * float(np.sqrt(parts.sum()))


@lru_cache(maxsize=128)
def _rank_sum_cdf(n: int, m: int) -> Floats:
    """P(U <= u) for u = 0 .. n m, U the Mann-Whitney statistic of two equal distributions without ties."""
    # counts[i][u]: ways to place i of the values of one sample; one value of the other added at a time
    # (Gaussian binomial coefficients by the product formula).
    ways = np.zeros(n * m + 1)
    ways[0] = 1.0
    for i in range(1, n + 1):
        grown = ways.copy()
        grown[m + i :] -= ways[: n * m + 1 - m - i] if m + i <= n * m else 0
        for u in range(i, n * m + 1):
            grown[u] += grown[u - i]
        ways = grown
    return np.cumsum(ways / ways.sum())
