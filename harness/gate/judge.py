"""Margins as ``p50:5%``, and comparisons to a verdict: non-inferiority, three states, corrected for many metrics."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.core.errors import UsageError
from harness.core.findings import Finding, Kind, found
from harness.gate.calibration import Calibration
from harness.gate.limits import Level, check_limits
from harness.gate.verdict import LimitVerdict, MetricVerdict, Outcome, Verdict
from harness.stats import Comparison, Plan, parse_metric, requests_least

MOST_PAIRS = 2000
"""Where more pairs than this would be needed, we say that none will do."""


def judge(
    comparisons: Sequence[Comparison],
    margins: Mapping[str, float],
    alpha: float = 0.05,
    refusals: Sequence[Finding] = (),
    warnings: Sequence[Finding] = (),
    calibration: Calibration | None = None,
    force: bool = False,
    plan: Plan | None = None,
    limits: Sequence[tuple[Level, float]] = (),
) -> Verdict:
    """Judge candidate against base, and by itself against ``limits``: its level of a metric, and the seconds it may take.

    A metric FAILs where the lower bound of its ratio is above 1 + margin, PASSes where the upper bound is
    below, and is INCONCLUSIVE otherwise; the same holds for a limit and the level in seconds. Each bound has
    the one-sided error rate ``alpha``, as is usual for
    non-inferiority: a candidate that lies exactly on its margin fails, or passes, so often. One metric's
    FAIL fails the whole, so the lower bounds are Holm's; all metrics must PASS for a PASS, which needs no
    correction (an intersection-union test). ``plan`` corrects for looking more than once, and its alpha
    takes the place of ``alpha``. ``calibration`` refuses margins below this machine's noise floor, unless
    ``force``. Raises UsageError for margins that cannot be meant, a metric that was not compared, or a number
    of pairs at which the plan has no look.
    """
    check_bounds(margins, {level.metric: limit_s for level, limit_s in limits})
    check_rate(alpha)
    chosen = [_of(comparisons, metric) for metric in margins]
    pairs = min(comparison.n_pairs for comparison in chosen or comparisons)
    declared = plan.alpha if plan else alpha
    used = _look(plan, pairs) if plan else alpha
    why_not = [*refusals, *_too_short([*chosen, *(level for level, _ in limits)])]
    said = [*warnings]
    # A plan that goes on to more pairs is held to what those can tell, not to its first look.
    below = _below_floor(margins, plan.looks[-1] if plan else pairs, calibration, Kind.FORCED if force else Kind.BELOW_FLOOR)
    (said if force else why_not).extend(below)
    tests = [(one.lower, 1 + margins[one.metric]) for one in chosen] + [(level.lower, limit_s) for level, limit_s in limits]
    rates = iter(_holm_levels(tests, used))
    metrics = tuple(_metric(one, margins[one.metric], next(rates), used) for one in chosen)
    timed = tuple(_limit(level, limit_s, next(rates), used) for level, limit_s in limits)
    if why_not:
        metrics = tuple(replace(one, outcome=Outcome.REFUSED, further_pairs=None) for one in metrics)
        timed = tuple(replace(one, outcome=Outcome.REFUSED, further_pairs=None) for one in timed)
    base, candidate = comparisons[0].base, comparisons[0].candidate
    shared = _shared_warnings(metrics)
    outcome = Outcome.REFUSED if why_not else _overall([*(one.outcome for one in metrics), *(one.outcome for one in timed)])
    return Verdict(
        outcome=outcome,
        base=base,
        candidate=candidate,
        alpha=declared,
        alpha_used=used,
        n_pairs=pairs,
        metrics=metrics,
        refusals=tuple(why_not),
        warnings=tuple(dict.fromkeys([*said, *shared])),
        limits=timed,
    )


def check_rate(alpha: float) -> None:
    """Raise UsageError if ``alpha`` is no one-sided error rate."""
    if not 0 < alpha < 0.25:
        raise UsageError(f"alpha is {alpha:g}; give an error rate above 0 and below 0.25, as 0.05")


def refused(
    base: str, candidate: str, reasons: Sequence[Finding], alpha: float = 0.05, warnings: Sequence[Finding] = ()
) -> Verdict:
    """The verdict where the rows do not even allow a comparison. ``reasons`` must not be empty."""
    return Verdict(Outcome.REFUSED, base, candidate, alpha, alpha, 0, (), tuple(reasons), tuple(warnings))


def _of(comparisons: Sequence[Comparison], metric: str) -> Comparison:
    for comparison in comparisons:
        if comparison.metric == metric:
            return comparison
    raise UsageError(f"the metric '{metric}' has a margin but was not compared; compare it first")


def _look(plan: Plan, pairs: int) -> float:
    level = plan.level_at(pairs)
    if level is None:
        looks = ", ".join(map(str, plan.looks))
        raise UsageError(f"the plan looks at {looks} pairs, not at {pairs}; judging elsewhere would void its error rate")
    return level


def _too_short(items: Sequence[Comparison | Level]) -> list[Finding]:
    """A quantile beyond the sample is the extreme of the run under another name: no gate should hang on it."""
    return [
        found(Kind.RUN_SHORT_OF, item.metric, needed=requests_least(item.metric), smallest=item.smallest_run)
        for item in {one.metric: one for one in items}.values()
        if item.smallest_run < requests_least(item.metric)
    ]


def _below_floor(margins: Mapping[str, float], pairs: int, calibration: Calibration | None, kind: Kind) -> list[Finding]:
    floors = {metric: calibration.floor(metric, pairs) for metric in margins} if calibration else {}
    return [
        found(kind, metric, margin=margins[metric], pairs=pairs, floor=floor)
        for metric, floor in floors.items()
        if floor is not None and margins[metric] < floor
    ]


def _holm_levels(tests: Sequence[tuple[Callable[[float], float], float]], level: float) -> list[float]:
    """The one-sided level of each lower bound: Holm's steps, loosened by every test that has failed so far.

    A test is a lower bound by its level, and what it must not exceed.
    """
    levels = [math.nan] * len(tests)
    waiting = list(range(len(tests)))
    while waiting:
        strict = level / len(waiting)
        failed = [place for place in waiting if tests[place][0](strict) > tests[place][1]]
        for place in failed or waiting:
            levels[place] = strict
        waiting = [place for place in waiting if place not in failed] if failed else []
    return levels


def _metric(comparison: Comparison, margin: float, level_low: float, level_high: float) -> MetricVerdict:
    low, high = comparison.lower(level_low), comparison.upper(level_high)
    outcome = _outcome(low, high, 1 + margin)
    further = None
    if outcome is Outcome.INCONCLUSIVE:
        further = further_pairs(comparison.n_pairs, comparison.ratio, low, high, margin, min(level_low, level_high))
    return MetricVerdict(
        metric=comparison.metric,
        margin=margin,
        outcome=outcome,
        ratio=comparison.ratio,
        low=low,
        high=high,
        level_low=level_low,
        level_high=level_high,
        p_value=comparison.p_value,
        n_pairs=comparison.n_pairs,
        n_requests=comparison.n_requests,
        further_pairs=further,
        warnings=comparison.warnings,
        log_ratios=comparison.log_ratios,
    )


def _limit(level: Level, limit_s: float, level_low: float, level_high: float) -> LimitVerdict:
    low, high = level.lower(level_low), level.upper(level_high)
    outcome, runs = _outcome(low, high, limit_s), len(level.logs)
    further = None
    if outcome is Outcome.INCONCLUSIVE:
        value, below, above = level.value_s / limit_s, low / limit_s, high / limit_s
        further = further_pairs(runs, value, below, above, 0.0, min(level_low, level_high))
    return LimitVerdict(
        metric=level.metric,
        limit_s=limit_s,
        outcome=outcome,
        value_s=level.value_s,
        low_s=low,
        high_s=high,
        level_low=level_low,
        level_high=level_high,
        n_runs=runs,
        n_requests=level.n_requests,
        further_pairs=further,
        warnings=level.warnings,
    )


def _outcome(low: float, high: float, most: float) -> Outcome:
    return Outcome.FAIL if low > most else Outcome.PASS if high < most else Outcome.INCONCLUSIVE


def further_pairs(pairs: int, ratio: float, low: float, high: float, margin: float, level: float) -> int | None:
    """How many more pairs would bring the nearer bound to the margin, were the ratio to stay where it is.

    The interval narrows with the square root of the number of pairs; below the number that an interval
    without a distribution needs (1/2^n at most ``level``), that number. "At least", for the ratio will move
    as well. None above MOST_PAIRS.
    """
    least = math.ceil(-math.log2(level))
    if low <= 0 or math.isinf(high):
        return max(least - pairs, 1)
    gap = math.log(ratio) - math.log1p(margin)
    half = math.log(ratio) - math.log(low) if gap > 0 else math.log(high) - math.log(ratio)
    if abs(gap) * math.sqrt(MOST_PAIRS / pairs) < half:
        return None
    return max(math.ceil(pairs * (half / gap) ** 2), least, pairs + 1) - pairs


def _overall(outcomes: Sequence[Outcome]) -> Outcome:
    if Outcome.FAIL in outcomes:
        return Outcome.FAIL
    return Outcome.PASS if all(outcome is Outcome.PASS for outcome in outcomes) else Outcome.INCONCLUSIVE


def _shared_warnings(metrics: Sequence[MetricVerdict]) -> list[Finding]:
    """What is said of every metric is said of the whole."""
    first = metrics[0].warnings if metrics else ()
    return [text for text in first if all(text in metric.warnings for metric in metrics)]


def parse_margins(specs: Sequence[str]) -> dict[str, float]:
    """``["p50:5%", "p95:10%"]`` to ``{"p50": 0.05, "p95": 0.10}``, in the given order.

    Raises UsageError for anything else: no margin at all, an unknown metric, one named twice, no percent
    sign, a margin of 0% or of more than 100%.
    """
    margins: dict[str, float] = {}
    for spec in specs:
        metric, colon, text = spec.partition(":")
        match = re.fullmatch(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*%", text.strip())
        if not colon or not match:
            raise UsageError(f"'{spec}' is not a margin; write a metric and a percentage, as p50:5%")
        if metric in margins:
            raise UsageError(f"the metric '{metric}' has two margins; give one")
        margins[metric] = float(match[1]) / 100
    check_margins(margins)
    return margins


def check_bounds(margins: Mapping[str, float], limits: Mapping[str, float]) -> None:
    """Raise UsageError if a margin or a limit cannot be meant, or there is neither."""
    check_limits(limits)
    if margins or not limits:
        check_margins(margins)


def check_margins(margins: Mapping[str, float]) -> None:
    """Raise UsageError if a margin (0.05 for 5%) cannot be meant."""
    if not margins:
        raise UsageError("no margin is given, so there is nothing to judge; give one per metric, as --max p50:5%")
    for metric, margin in margins.items():
        parse_metric(metric)
        if not margin > 0:
            raise UsageError(
                f"the margin of {metric} is {100 * margin:g}%; it must be above 0%, since noise alone makes a difference: "
                "`ttft calibrate` measures the smallest one that this machine can hold"
            )
        if margin > 1:
            raise UsageError(f"the margin of {metric} is {100 * margin:g}%; above 100% it tolerates anything: give at most 100%")
