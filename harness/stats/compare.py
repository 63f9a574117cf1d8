"""Candidate against base, metric by metric, from pairs of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from harness.core.errors import UsageError
from harness.core.findings import Finding, Kind, found
from harness.stats.location import distribution_free, interval, lower_bound, upper_bound
from harness.stats.quality import drift, neighbours_alike, outliers
from harness.stats.quantiles import METRICS, Floats, requests_least, requests_needed
from harness.stats.runs import Pairs, paired
from harness.stats.twosample import shift_lower

EXACT_PAIRS = 200
"""Pairs up to which the test's distribution is formed; beyond it the normal approximation is as good."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much longer the candidate takes than the base, by one metric: ``ratio`` 1.10 is 10% slower.

    ``low`` and ``high`` bound the ratio at level 1 - ``alpha``; 0 and infinity if nothing is known.
    ``p_value`` is that of the test of "no change" (Wilcoxon's, two-sided). ``log_ratios`` has one entry per pair, for
    further statistics; if there are no pairs (``unpaired``) it has the candidate's values and ``base_logs`` the
    base's, both as logs.
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
    log_ratios: tuple[float, ...]
    warnings: tuple[Finding, ...]
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
        """Whether the interval excludes 1."""
        return self.low > 1 or self.high < 1

    @property
    def mark(self) -> str:
        """``~`` if the difference is not significant, else empty."""
        return "" if self.significant else "~"


def compare(
    frame: pd.DataFrame,
    base: str,
    candidate: str,
    metrics: Sequence[str] = METRICS,
    alpha: float = 0.05,
    column: str = "ttft_s",
) -> list[Comparison]:
    """One Comparison per metric, in the given order.

    The intervals are one at a time, not for all metrics together; the gate corrects, a table does not.
    Raises UsageError for an unknown arm, metric or column, ResultsError for rows that cannot be compared.
    """
    check_alpha(alpha)
    pairs = paired(frame, base, candidate, metrics, column)
    return [_comparison(metric, base, candidate, pairs, alpha) for metric in metrics]


def check_alpha(alpha: float) -> None:
    """Raise UsageError if ``alpha`` is no error rate."""
    if not 0 < alpha < 0.5:
        raise UsageError(f"alpha is {alpha:g}; it is an error rate between 0 and 0.5, such as 0.05")


def _comparison(metric: str, base: str, candidate: str, pairs: Pairs, alpha: float) -> Comparison:
    logs = pairs.log_ratios(metric)
    estimate = interval(logs, alpha)
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
        p_value=no_change(logs),
        log_ratios=tuple(float(value) for value in logs),
        warnings=(*pairs.warnings, *_doubts(metric, (base, candidate), pairs, logs, alpha)),
        smallest_run=pairs.smallest,
    )


def no_change(logs: Floats) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test: were nothing changed, each log could have the other sign.

    Exact up to EXACT_PAIRS pairs, as long as no two logs have the same size.
    """
    changed = logs[logs != 0]
    if not len(changed):
        return 1.0
    return float(wilcoxon(changed, method="exact" if len(changed) <= EXACT_PAIRS else "asymptotic").pvalue)


def _doubts(metric: str, arms: tuple[str, str], pairs: Pairs, logs: Floats, alpha: float) -> list[Finding]:
    """What a reader should know before leaning on this number."""
    doubts = few_requests(metric, pairs.smallest)
    least = int(np.ceil(-np.log2(alpha / 2)))
    if len(logs) == 1:
        doubts.append(found(Kind.ONE_PAIR, needed=least))
    elif not distribution_free(len(logs), alpha / 2):
        doubts.append(found(Kind.FEW_PAIRS, pairs=len(logs), needed=least))
    if len(logs) > 1 and len(set(pairs.base_first)) == 1:
        doubts.append(found(Kind.ONE_ORDER, arms[0] if pairs.base_first[0] else arms[1]))
    doubts += [found(Kind.ODD_PAIR, round=pairs.rounds[place], ratio=float(np.exp(logs[place]))) for place in outliers(logs)]
    trend = drift(logs)
    if trend.significant:
        doubts.append(found(Kind.RATIO_DRIFTS, percent=100 * float(np.expm1(trend.total)), p=trend.p_value))
    if neighbours_alike(logs):
        doubts.append(found(Kind.PAIRS_ALIKE))
    return doubts


def few_requests(metric: str, smallest: int) -> list[Finding]:
    """The finding that the shortest run is too short for ``metric``, if it is."""
    needed = requests_needed(metric)
    if smallest >= needed:
        return []
    kind = Kind.EXTREME if smallest < requests_least(metric) else Kind.FEW_REQUESTS
    return [found(kind, metric, needed=needed, smallest=smallest)]
