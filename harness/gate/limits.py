"""Absolute limits, as ``p95:800ms``: what the candidate itself may take, beside how it compares with the base."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.core.errors import UsageError
from harness.core.findings import Finding, Kind, found
from harness.stats import lower_bound, parse_metric, upper_bound
from harness.stats.compare import few_requests
from harness.stats.location import pseudomedian
from harness.stats.quality import drift
from harness.stats.quantiles import Floats, requests_least, requests_needed
from harness.stats.runs import run_table

UNITS_S = {"ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Level:
    """One metric of one arm over its runs: ``logs`` has the log of each run's seconds.

    ``smallest_run`` is the number of requests of the shortest run.
    """

    metric: str
    n_requests: int
    smallest_run: int
    logs: tuple[float, ...]
    warnings: tuple[Finding, ...] = ()

    @property
    def value_s(self) -> float:
        """The centre of the runs (Hodges-Lehmann) in seconds."""
        return float(np.exp(pseudomedian(self.logs)))

    def lower(self, level: float) -> float:
        """The lower bound in seconds at the one-sided error rate ``level``; 0 where nothing is known."""
        return float(np.exp(lower_bound(self.logs, level)))

    def upper(self, level: float) -> float:
        """The upper bound in seconds at the one-sided error rate ``level``; infinite where nothing is known."""
        with np.errstate(over="ignore"):  # of two runs far apart nearly nothing is known
            return float(np.exp(upper_bound(self.logs, level)))


def levels(frame: pd.DataFrame, arm: str, metrics: Sequence[str]) -> list[Level]:
    """The level of each metric over the runs of ``arm`` in ``frame``. Raises ResultsError for rows that are no times."""
    if not metrics:
        return []
    table = run_table(frame[frame["arm"] == arm], metrics)
    total, smallest = int(table["requests"].sum()), int(table["requests"].min())
    known = []
    for metric in metrics:
        logs = np.log(table[metric].to_numpy(dtype=np.float64))
        warnings = [*few_requests(metric, smallest), *_drift(metric, logs)]
        known.append(Level(metric, total, smallest, tuple(float(one) for one in logs), tuple(warnings)))
    return known


def _drift(metric: str, logs: Floats) -> list[Finding]:
    """A level has no other arm in its round to cancel what the machine did meanwhile, so a trend has to be said."""
    trend = drift(logs)
    if not trend.significant:
        return []
    return [found(Kind.ARM_DRIFTS, metric=metric, percent=100 * float(np.expm1(trend.total)), p=trend.p_value)]


def parse_bounds(specs: Sequence[str]) -> tuple[list[str], dict[str, float]]:
    """The specs of margins among ``specs`` as they are, and the limits: ``["p95:800ms"]`` is ``{"p95": 0.8}``, in seconds.

    Raises UsageError for a limit of an unknown metric, of no time at all, or one that is given twice.
    """
    margins: list[str] = []
    limits: dict[str, float] = {}
    for spec in specs:
        metric, _, text = spec.partition(":")
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)", text.strip())
        if not match:
            margins.append(spec)
            continue
        if metric in limits:
            raise UsageError(f"the metric '{metric}' has two limits; give one")
        limits[metric] = float(match[1]) * UNITS_S[match[2]]
    check_limits(limits)
    return margins, limits


def check_limits(limits: Mapping[str, float]) -> None:
    """Raise UsageError if a limit (in seconds) cannot be meant."""
    for metric, limit_s in limits.items():
        parse_metric(metric)
        if not 0 < limit_s < float("inf"):
            raise UsageError(f"the limit of {metric} is {1e3 * limit_s:g} ms; give a time above 0, as {metric}:800ms")


def check_requests(metrics: Sequence[str], requests: int) -> list[str]:
    """Before anything is measured: whether runs of ``requests`` requests can tell ``metrics``.

    Returns a sentence for each metric that they tell badly; raises UsageError for one that they don't tell at all.
    """
    said = []
    for metric in dict.fromkeys(metrics):
        least, needed = requests_least(metric), requests_needed(metric)
        if requests < least:
            raise UsageError(
                f"{metric} needs at least {least} requests per run, better {needed}, and this workload has {requests}; "
                "let it have more prompts (for a synthetic one --set workload.prompts=NUMBER), or judge a lower quantile"
            )
        if requests < needed:
            said.append(f"{metric} is unsure below {needed} requests per run, and this workload has {requests}")
    return said
