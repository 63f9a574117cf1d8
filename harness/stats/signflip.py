"""The exact sign-flip test: were nothing changed, each pair's log ratio could as well have the other sign."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from harness.stats.quantiles import Floats

EXACT_SUMS = 20
"""Pairs up to which all 2^n sums are formed (8 MiB at 20)."""
EXACT_RANKS = 200
"""Pairs up to which the distribution of rank sums is formed."""
DRAWS = 100_000


@dataclass(frozen=True, slots=True)
class SignFlip:
    """The p-values of one test. ``greater`` is small where the values lie above 0."""

    greater: float
    less: float
    two_sided: float


def sign_flip(values: npt.ArrayLike, statistic: Literal["ranks", "mean"] = "ranks", seed: int = 0) -> SignFlip:
    """Test whether ``values``, shape (n,), lie around 0 by flipping the sign of each in all 2^n ways.

    ``ranks`` sums the ranks of the positive values (Wilcoxon's signed-rank test; ties share their
    rank, zeros have none), and fits the intervals of ``location``; ``mean`` sums the values themselves
    (Fisher's randomisation test). Exact up to 200 and 20 values; beyond that by the normal approximation
    and by 100,000 seeded draws. The smallest one-sided p of n pairs is 1/2^n.
    """
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[sample != 0]
    if len(sample) == 0:
        return SignFlip(1.0, 1.0, 1.0)
    if statistic == "ranks":
        scores = rankdata(np.abs(sample))
        greater, less = _tails_of_ranks(scores, float(scores[sample > 0].sum()))
    else:
        greater, less = _tails_of_sums(np.abs(sample), float(sample[sample > 0].sum()), seed)
    return SignFlip(greater, less, min(1.0, 2 * min(greater, less)))


def _tails_of_ranks(scores: Floats, observed: float) -> tuple[float, float]:
    if len(scores) > EXACT_RANKS:
        mean, spread = scores.sum() / 2, np.sqrt((scores**2).sum()) / 2
        return float(norm.sf((observed - mean) / spread)), float(norm.cdf((observed - mean) / spread))
    doubled = np.rint(2 * scores).astype(np.int64)  # shared ranks end in .5: twice them are whole
    mass: Floats = np.zeros(int(doubled.sum()) + 1)
    mass[0] = 1.0
    for step in doubled:
        heads = np.zeros_like(mass)
        heads[step:] = mass[:-step]
        mass = (mass + heads) / 2
    at = round(2 * observed)
    return float(mass[at:].sum()), float(mass[: at + 1].sum())


def _tails_of_sums(sizes: Floats, observed: float, seed: int) -> tuple[float, float]:
    """Shares of sign patterns whose positive part is at least, and at most, ``observed``."""
    slack = 1e-9 * float(sizes.sum())
    if len(sizes) <= EXACT_SUMS:
        sums: Floats = np.zeros(1)
        for size in sizes:
            sums = np.concatenate((sums, sums + size))
        return float(np.mean(sums >= observed - slack)), float(np.mean(sums <= observed + slack))
    generator = np.random.default_rng(seed)
    sums = np.concatenate([generator.integers(0, 2, (DRAWS // 100, len(sizes)), dtype=np.int8) @ sizes for _ in range(100)])
    # The observed pattern is one of those that could have come up; without it p could be 0.
    over, under = np.count_nonzero(sums >= observed - slack), np.count_nonzero(sums <= observed + slack)
    return (1 + over) / (1 + DRAWS), (1 + under) / (1 + DRAWS)
