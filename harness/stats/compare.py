"""Candidate against base, metric by metric, from pairs of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from harness.core.errors import UsageError
from harness.stats.bootstrap import hierarchical_bootstrap
from harness.stats.location import Interval, distribution_free, interval, lower_bound, upper_bound
from harness.stats.quality import drift, neighbours_alike, outliers
from harness.stats.quantiles import METRICS, Floats, requests_least, requests_needed
from harness.stats.runs import Pairs, paired
from harness.stats.signflip import sign_flip
from harness.stats.twosample import shift_lower

Method = Literal["signed-rank", "hierarchical"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much longer the candidate takes than the base, by one metric: ``ratio`` 1.10 is 10% slower.

    ``low`` and ``high`` bound the ratio at level 1 - ``alpha``; 0 and infinity where nothing is known.
    The p-values are those of the exact sign-flip test of "no change"; ``p_greater`` is small where the
    candidate is slower. ``log_ratios`` has one entry a pair, so that others can go on from here; where there
    are no pairs (``unpaired``) it has the candidate's values and ``base_logs`` the base's, both as logs.
    ``smallest_run`` is the number of requests of the shortest run.
    """

    metric: str
    base: str
    candidate: str
    n_pairs: int
    n_requests: int
    ratio: float
    low: float
    high: float
    alpha: float
    p_value: float
    p_greater: float
    p_less: float
    log_ratios: tuple[float, ...]
    warnings: tuple[str, ...]
    base_logs: tuple[float, ...] = ()
    smallest_run: int = 0

    @property
    def unpaired(self) -> bool:
        """Whether the two sides share no rounds."""
        return bool(self.base_logs)

    def lower(self, level: float) -> float:
        """The ratio's lower bound at the one-sided error rate ``level``."""
        if self.unpaired:
            return float(np.exp(shift_lower(np.array(self.base_logs), np.array(self.log_ratios), level)))
        return float(np.exp(lower_bound(self.log_ratios, level)))

    def upper(self, level: float) -> float:
        """The ratio's upper bound at the one-sided error rate ``level``."""
        if self.unpaired:
            return float(np.exp(-shift_lower(-np.array(self.base_logs), -np.array(self.log_ratios), level)))
        return float(np.exp(upper_bound(self.log_ratios, level)))

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 1."""
        return self.low > 1 or self.high < 1

    @property
    def mark(self) -> str:
        """``~`` where the difference is not significant, else empty."""
        return "" if self.significant else "~"


def compare(
    frame: pd.DataFrame,
    base: str,
    candidate: str,
    metrics: Sequence[str] = METRICS,
    alpha: float = 0.05,
    seed: int = 0,
    column: str = "ttft_s",
    method: Method = "signed-rank",
) -> list[Comparison]:
    """One Comparison a metric, in the given order.

    The intervals are one at a time, not for all metrics together; the gate corrects, a table does not.
    ``method`` "hierarchical" takes the hierarchical bootstrap instead, whose coverage is off with few pairs
    (docs/decisions/0003-interval.md). Raises UsageError for an unknown arm, metric or column,
    ResultsError for rows that cannot be compared.
    """
    check_alpha(alpha)
    pairs = paired(frame, base, candidate, metrics, column)
    found: list[Comparison] = []
    for metric in metrics:
        logs = pairs.log_ratios(metric)
        if method == "hierarchical":
            estimate = hierarchical_bootstrap(frame, base, candidate, metric, alpha, seed=seed, column=column)
        else:
            estimate = interval(logs, alpha)
        found.append(_comparison(metric, base, candidate, pairs, logs, estimate, alpha))
    return found


def check_alpha(alpha: float) -> None:
    """Raise UsageError where ``alpha`` is no error rate."""
    if not 0 < alpha < 0.5:
        raise UsageError(f"alpha is {alpha:g}; it is an error rate between 0 and 0.5, as 0.05")


def _comparison(
    metric: str, base: str, candidate: str, pairs: Pairs, logs: Floats, estimate: Interval, alpha: float
) -> Comparison:
    test = sign_flip(logs)
    return Comparison(
        metric=metric,
        base=base,
        candidate=candidate,
        n_pairs=len(logs),
        n_requests=pairs.requests,
        ratio=float(np.exp(estimate.value)),
        low=float(np.exp(estimate.low)),
        high=float(np.exp(estimate.high)),
        alpha=alpha,
        p_value=test.two_sided,
        p_greater=test.greater,
        p_less=test.less,
        log_ratios=tuple(float(value) for value in logs),
        warnings=(*pairs.warnings, *_doubts(metric, pairs, logs, alpha)),
        smallest_run=pairs.smallest,
    )


def _doubts(metric: str, pairs: Pairs, logs: Floats, alpha: float) -> list[str]:
    """What a reader should know before leaning on this number."""
    doubts: list[str] = []
    too_few = few_requests(metric, pairs.smallest)
    if too_few:
        doubts.append(too_few)
    least = int(np.ceil(-np.log2(alpha / 2)))
    if len(logs) == 1:
        doubts.append(f"1 pair of runs says nothing about chance; at least {least} pairs are needed")
    elif not distribution_free(len(logs), alpha / 2):
        doubts.append(f"{len(logs)} pairs: the interval assumes normal noise; with at least {least} pairs it needs not")
    if len(logs) > 1 and len(set(pairs.base_first)) == 1:
        first = "the base" if pairs.base_first[0] else "the candidate"
        doubts.append(f"{first} ran first in every pair, so a drift of the machine counts as a difference; alternate the order")
    for place in outliers(logs):
        doubts.append(f"pair {pairs.rounds[place]} stands out (ratio {np.exp(logs[place]):.3f}); it is kept")
    trend = drift(logs)
    if trend.significant:
        doubts.append(f"the ratio drifts over the pairs by about {100 * np.expm1(trend.total):+.0f}% (p {trend.p_value:.3f})")
    if neighbours_alike(logs):
        doubts.append("neighbouring pairs are alike, so the interval may be too narrow; spread the pairs over more time")
    return doubts


def few_requests(metric: str, smallest: int) -> str | None:
    """The warning where the shortest run is too short for ``metric``."""
    needed = requests_needed(metric)
    if smallest >= needed:
        return None
    tail = ", and below that it is no more than the extreme of the run" if smallest < requests_least(metric) else ""
    return f"{metric} needs at least {needed} requests a run, the shortest has {smallest}{tail}"
