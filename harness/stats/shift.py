"""The shift function: is the candidate slower everywhere, or only in the tail?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.core.errors import UsageError
from harness.core.findings import Finding, Kind, found
from harness.stats.compare import check_alpha, few_requests
from harness.stats.quantiles import Floats
from harness.stats.runs import paired

DECILES: tuple[str, ...] = tuple(f"p{10 * step}" for step in range(1, 10))
DRAWS = 4000
EXACT_PAIRS = 12
"""Pairs up to which all sign patterns are formed (4096)."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Ratio candidate over base at each quantile; the intervals hold for all of them at once, at 1 - alpha."""

    base: str
    candidate: str
    quantiles: tuple[str, ...]
    ratios: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    n_pairs: int
    alpha: float
    warnings: tuple[Finding, ...]


def shift_function(
    frame: pd.DataFrame,
    base: str,
    candidate: str,
    quantiles: Sequence[str] = DECILES,
    alpha: float = 0.05,
    seed: int = 0,
    column: str = "ttft_s",
) -> Shift:
    """Quantile by quantile, with simultaneous intervals from the largest studentised deviation.

    The critical value is the 1 - alpha quantile of max |t| over the quantiles when the rounds' residuals
    change their signs, all quantiles of a round together (Westfall and Young's max-T by sign flips): so
    the dependence between quantiles makes them narrower. Raises UsageError for fewer than 3 pairs.
    """
    check_alpha(alpha)
    pairs = paired(frame, base, candidate, quantiles, column)
    logs = np.column_stack([pairs.log_ratios(metric) for metric in quantiles])
    n = len(logs)
    if n < 3:
        raise UsageError(f"a shift function needs at least 3 pairs of runs, there are {n}; measure more")
    centre = logs.mean(axis=0)
    error = logs.std(axis=0, ddof=1) / np.sqrt(n)
    half = _critical(logs - centre, alpha, seed) * error
    warnings = [*pairs.warnings, *(few for metric in quantiles for few in few_requests(metric, pairs.smallest))]
    if n < 8:
        warnings.append(found(Kind.FEW_PAIRS_FOR_ALL, pairs=n, quantiles=len(quantiles)))
    return Shift(
        base,
        candidate,
        tuple(quantiles),
        _ratios(centre),
        _ratios(centre - half),
        _ratios(centre + half),
        n,
        alpha,
        tuple(warnings),
    )


def _critical(residuals: Floats, alpha: float, seed: int) -> float:
    n = len(residuals)
    if n <= EXACT_PAIRS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (DRAWS, n))
    means = signs @ residuals / n
    # Signs do not change the sum of squares, so the spread about the flipped mean follows from it.
    spread = np.sqrt(np.maximum((residuals**2).sum(axis=0) - n * means**2, 0) / (n - 1) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.nan_to_num(np.abs(means) / spread, nan=0.0, posinf=np.inf).max(axis=1)
    return float(np.quantile(largest, 1 - alpha, method="higher"))


def _ratios(logs: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in np.exp(logs))
