"""What a gate says, as values: overall, and metric by metric."""

import math
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from harness.core.findings import Finding, counted

SCHEMA = "1.1"
"""Major, minor, of the JSON form; verdict.schema.json describes it. 1.1 added absolute limits."""


class Outcome(StrEnum):
    """The three states of a gate, and the one in which it does not judge."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    REFUSED = "REFUSED"


EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.REFUSED: 2, Outcome.INCONCLUSIVE: 3}


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric's part. Ratios are candidate over base; ``margin`` 0.05 tolerates a ratio of 1.05.

    ``low`` and ``high`` are the bounds that decided, at the one-sided error rates ``level_low`` (after Holm)
    and ``level_high``. ``further_pairs`` is, where inconclusive, how many more pairs are needed at least;
    None there means that no reasonable number would settle it.
    """

    metric: str
    margin: float
    outcome: Outcome
    ratio: float
    low: float
    high: float
    level_low: float
    level_high: float
    p_value: float
    n_pairs: int
    n_requests: int
    further_pairs: int | None
    warnings: tuple[Finding, ...]
    log_ratios: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        numbers = f"ratio {self.ratio:.3f}, {self.low:.3f} to {self.high:.3f}; margin {_percent(self.margin)}"
        if self.outcome is Outcome.REFUSED:
            return f"{self.metric} is not judged ({numbers})"
        if self.outcome is Outcome.FAIL:
            return f"{self.metric} fails: at least {_percent(self.low - 1)} slower ({numbers})"
        if self.outcome is Outcome.PASS:
            return f"{self.metric} passes: {_at_most(self.high)} ({numbers})"
        return f"{self.metric} is undecided: {_further(self.further_pairs, 'ratio', 'margin')} ({numbers})"


@dataclass(frozen=True, slots=True)
class LimitVerdict:
    """An absolute limit's part: the candidate's own metric over its runs, in seconds; the other fields as in MetricVerdict."""

    metric: str
    limit_s: float
    outcome: Outcome
    value_s: float
    low_s: float
    high_s: float
    level_low: float
    level_high: float
    n_runs: int
    n_requests: int
    further_pairs: int | None
    warnings: tuple[Finding, ...]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        numbers = f"{ms(self.value_s)}, {ms(self.low_s)} to {ms(self.high_s)}; limit {ms(self.limit_s)}"
        name = f"the limit of {self.metric}"
        if self.outcome is Outcome.REFUSED:
            return f"{name} is not judged ({numbers})"
        if self.outcome is Outcome.FAIL:
            return f"{name} fails: {self.metric} is at least {ms(self.low_s)} ({numbers})"
        if self.outcome is Outcome.PASS:
            return f"{name} passes: {self.metric} is at most {ms(self.high_s)} ({numbers})"
        return f"{name} is undecided: {_further(self.further_pairs, 'time', 'limit')} ({numbers})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate's verdict. ``refusals`` say why there is none; ``warnings`` are to be read beside it.

    ``metrics`` has the ratios that have a margin, ``limits`` the times that have an absolute limit.

    ``alpha`` is the declared one-sided error rate, ``alpha_used`` what a sequential plan leaves of it for
    this look. ``n_pairs`` is the number of pairs behind it.
    """

    outcome: Outcome
    base: str
    candidate: str
    alpha: float
    alpha_used: float
    n_pairs: int
    metrics: tuple[MetricVerdict, ...]
    refusals: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    limits: tuple[LimitVerdict, ...] = ()

    @property
    def judged(self) -> tuple[MetricVerdict | LimitVerdict, ...]:
        """Everything that has an outcome of its own."""
        return (*self.metrics, *self.limits)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 2 refused, 3 inconclusive."""
        return EXIT_CODES[self.outcome]

    @property
    def further_pairs(self) -> int | None:
        """Pairs still needed at least, over all undecided metrics; None if none are or none would do."""
        wanted = [metric.further_pairs for metric in self.judged if metric.outcome is Outcome.INCONCLUSIVE]
        return max((pairs for pairs in wanted if pairs is not None), default=None) if None not in wanted else None

    @property
    def all_warnings(self) -> tuple[Finding, ...]:
        """The warnings, and after them those of single metrics with the metric's name in front."""
        own = [
            finding.limited(metric.metric)
            for metric in self.judged
            for finding in metric.warnings
            if finding not in self.warnings
        ]
        return (*self.warnings, *dict.fromkeys(own))

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        arms = f"{self.candidate} against {self.base}"
        if self.outcome is Outcome.REFUSED:
            rest = f" (and {counted(len(self.refusals) - 1, 'more reason')})" if len(self.refusals) > 1 else ""
            return f"REFUSED: {arms}: {self.refusals[0]}{rest}"
        decisive = [one for one in self.judged if one.outcome is self.outcome]
        return f"{self.outcome}: {arms}: {'; '.join(one.sentence for one in decisive)}"

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values, valid against verdict.schema.json; unknown bounds are null."""
        metrics = [{**_fields(metric), "sentence": metric.sentence} for metric in self.metrics]
        limits = [{**_fields(limit), "sentence": limit.sentence} for limit in self.limits]
        derived = {"exit_code": self.exit_code, "further_pairs": self.further_pairs, "sentence": self.sentence}
        plain: dict[str, Any] = _plain({"schema": SCHEMA, **_fields(self), **derived, "metrics": metrics, "limits": limits})
        return plain


def _fields(value: Verdict | MetricVerdict | LimitVerdict) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Outcome | Finding):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _further(pairs: int | None, value: str, bound: str) -> str:
    if pairs is None:
        return f"the {value} lies too close to the {bound} for any reasonable number of pairs to settle it"
    return f"at least {pairs} further pairs would be needed to settle it"


def ms(seconds: float) -> str:
    """A time in words; a bound of which nothing is known is ``unknown``."""
    return f"{1e3 * seconds:,.1f} ms" if math.isfinite(seconds) else "unknown"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%".replace(".0%", "%")


def _at_most(high: float) -> str:
    return f"at most {_percent(high - 1)} slower" if high > 1 else f"at least {_percent(1 - high)} faster"
