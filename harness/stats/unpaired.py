"""Two samples that share no rounds: stored runs of different times, or ratios measured on different machines."""

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu, norm
from scipy.stats import t as student

from harness.errors import UsageError
from harness.stats.compare import Comparison, check_alpha, few_requests
from harness.stats.location import Interval
from harness.stats.quantiles import METRICS, Floats
from harness.stats.runs import require_arms, run_table

EXACT = 40
"""Values a side up to which the distribution of the rank sum is formed."""
ALL_DIFFERENCES = 4_000_000
"""Differences formed at most (32 MiB); beyond that Welch's t is as good."""
APART = (
    "the runs share no rounds, so what changed on the machine between them counts as a difference; "
    "compare arms of one run, or each run's arm to a control arm of its own"
)


def compare_unpaired(
    base_frame: pd.DataFrame,
    base: str,
    candidate_frame: pd.DataFrame,
    candidate: str,
    metrics: Sequence[str] = METRICS,
    alpha: float = 0.05,
    column: str = "ttft_s",
) -> list[Comparison]:
    """Candidate of one stored run over base of another, run against run without pairs.

    Whatever changed on the machine between the two counts as a difference, and no interval can tell: the
    comparisons say so in their warnings. ``ratio_of_ratios`` over an arm that both runs have is better.
    """
    check_alpha(alpha)
    require_arms(base_frame, base)
    require_arms(candidate_frame, candidate)
    ours = run_table(base_frame[base_frame["arm"] == base], metrics, column)
    theirs = run_table(candidate_frame[candidate_frame["arm"] == candidate], metrics, column)
    requests, smallest = (
        int(ours["requests"].sum() + theirs["requests"].sum()),
        int(min(ours["requests"].min(), theirs["requests"].min())),
    )
    found: list[Comparison] = []
    for metric in metrics:
        few = few_requests(metric, smallest)
        sides = [side[metric].to_numpy(dtype=np.float64) for side in (ours, theirs)]
        if min(float(side.min()) for side in sides) <= 0:
            raise UsageError(f"the {metric} of {column} is 0 in a run, so it has no ratio; compare another column")
        logs = np.log(sides[0]), np.log(sides[1])
        found.append(_comparison(metric, base, candidate, *logs, requests, alpha, (APART, *([few] if few else []))))
    return found


def ratio_of_ratios(new: Sequence[Comparison], old: Sequence[Comparison]) -> list[Comparison]:
    """What a candidate-over-control ratio became since it was stored; one entry a metric that both have.

    Both were measured against the control arm of their own run, so that a machine's own speed cancels out.
    ``base`` and ``candidate`` of the results name the old and the new ratio. Raises UsageError where the
    metrics do not meet.
    """
    stored = {comparison.metric: comparison for comparison in old}
    found: list[Comparison] = []
    for now in new:
        then = stored.get(now.metric)
        if then is None:
            raise UsageError(f"the stored ratio has no metric '{now.metric}'; it has {', '.join(stored) or 'none'}")
        names = [f"{item.candidate} / {item.base}" for item in (then, now)]
        warnings = tuple(dict.fromkeys([*then.warnings, *now.warnings]))
        logs = np.asarray(then.log_ratios), np.asarray(now.log_ratios)
        requests = then.n_requests + now.n_requests
        found.append(_comparison(now.metric, f"stored {names[0]}", names[1], *logs, requests, now.alpha, warnings))
    return found


def _comparison(
    metric: str, base: str, candidate: str, ours: Floats, theirs: Floats, requests: int, alpha: float, warnings: tuple[str, ...]
) -> Comparison:
    estimate = shift_interval(ours, theirs, alpha)
    greater = float(mannwhitneyu(theirs, ours, alternative="greater").pvalue)
    less = float(mannwhitneyu(theirs, ours, alternative="less").pvalue)
    return Comparison(
        metric=metric,
        base=base,
        candidate=candidate,
        n_pairs=min(len(ours), len(theirs)),
        n_requests=requests,
        ratio=float(np.exp(estimate.value)),
        low=float(np.exp(estimate.low)),
        high=float(np.exp(estimate.high)),
        alpha=alpha,
        p_value=min(1.0, 2 * min(greater, less)),
        p_greater=greater,
        p_less=less,
        log_ratios=tuple(float(value) for value in theirs - np.median(ours)),
        warnings=warnings,
        unpaired=True,
    )


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

    Interpolated between neighbouring k. Welch's t where there are too few values for ``level``, or very many;
    -inf where a side has one value only.
    """
    n, m = len(ours), len(theirs)
    if min(n, m) < 2:
        return -np.inf
    if level < 1 / comb(n + m, n) or n * m > ALL_DIFFERENCES:
        return _welch_lower(ours, theirs, level)
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
