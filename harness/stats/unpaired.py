"""Two samples that share no rounds: stored measurements of different times, or ratios measured on different machines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from harness.core.errors import UsageError
from harness.core.findings import Finding, Kind, found
from harness.stats.compare import Comparison, check_alpha, few_requests
from harness.stats.quantiles import METRICS, Floats
from harness.stats.runs import require_arms, run_table
from harness.stats.twosample import shift_interval


def compare_unpaired(
    base_frame: pd.DataFrame,
    base: str,
    candidate_frame: pd.DataFrame,
    candidate: str,
    metrics: Sequence[str] = METRICS,
    alpha: float = 0.05,
    column: str = "ttft_s",
) -> list[Comparison]:
    """Candidate of one stored measurement over base of another, by their runs without pairs.

    Whatever changed on the machine between the two counts as a difference, which no interval shows: the
    comparisons say so in their warnings. ``ratio_of_ratios`` over an arm that both measurements have is better.
    """
    check_alpha(alpha)
    require_arms(base_frame, base)
    require_arms(candidate_frame, candidate)
    ours = run_table(base_frame[base_frame["arm"] == base], metrics, column)
    theirs = run_table(candidate_frame[candidate_frame["arm"] == candidate], metrics, column)
    sizes = pd.concat([ours["requests"], theirs["requests"]])
    requests, smallest = int(sizes.sum()), int(sizes.min())
    compared: list[Comparison] = []
    for metric in metrics:
        sides = [side[metric].to_numpy(dtype=np.float64) for side in (ours, theirs)]
        if min(float(side.min()) for side in sides) <= 0:
            raise UsageError(f"the {metric} of {column} is 0 in a run, so it has no ratio; compare another column")
        logs = np.log(sides[0]), np.log(sides[1])
        warnings = (found(Kind.APART), *few_requests(metric, smallest))
        compared.append(_comparison(_Sides(metric, base, candidate, *logs, requests, smallest, warnings), alpha))
    return compared


def ratio_of_ratios(new: Sequence[Comparison], old: Sequence[Comparison]) -> list[Comparison]:
    """What a candidate-over-control ratio became since it was stored; one entry per metric that both have.

    Both were measured against the control arm of their own measurement, so that a machine's own speed cancels.
    ``base`` and ``candidate`` of the results name the old and the new ratio. Raises UsageError if the
    metrics do not meet.
    """
    stored = {comparison.metric: comparison for comparison in old}
    compared: list[Comparison] = []
    for now in new:
        then = stored.get(now.metric)
        if then is None:
            raise UsageError(f"the stored ratio has no metric '{now.metric}'; it has {', '.join(stored) or 'none'}")
        names = [f"{item.candidate} / {item.base}" for item in (then, now)]
        warnings = (*(found(Kind.OF_STORED, about=one) for one in then.warnings), *now.warnings)
        logs = np.asarray(then.log_ratios), np.asarray(now.log_ratios)
        requests, smallest = then.n_requests + now.n_requests, min(then.smallest_run, now.smallest_run)
        sides = _Sides(now.metric, f"stored {names[0]}", names[1], *logs, requests, smallest, warnings)
        compared.append(_comparison(sides, now.alpha))
    return compared


@dataclass(frozen=True, slots=True)
class _Sides:
    """Logs of two samples, with their findings."""

    metric: str
    base: str
    candidate: str
    ours: Floats
    theirs: Floats
    requests: int
    smallest: int
    warnings: tuple[Finding, ...]


def _comparison(sides: _Sides, alpha: float) -> Comparison:
    estimate = shift_interval(sides.ours, sides.theirs, alpha)
    return Comparison(
        metric=sides.metric,
        base=sides.base,
        candidate=sides.candidate,
        n_pairs=min(len(sides.ours), len(sides.theirs)),
        n_requests=sides.requests,
        ratio=float(np.exp(estimate.value)),
        low=float(np.exp(estimate.low)),
        high=float(np.exp(estimate.high)),
        alpha=alpha,
        p_value=float(mannwhitneyu(sides.theirs, sides.ours).pvalue),
        log_ratios=tuple(float(value) for value in sides.theirs),
        base_logs=tuple(float(value) for value in sides.ours),
        warnings=sides.warnings,
        smallest_run=sides.smallest,
    )
