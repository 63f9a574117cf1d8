"""Metrics of one run: the mean, and Harrell-Davis quantiles named p50, p90, p95, p99."""

import re
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from harness.core.errors import UsageError

Floats = npt.NDArray[np.float64]

METRICS: tuple[str, ...] = ("mean", "p50", "p90", "p95", "p99")
"""The metrics of every table. Any other quantile (``p75``, ``p99.9``) can be given by name."""

BEYOND = 5
"""This many requests of a run should lie beyond a quantile before it can be trusted."""


def harrell_davis(values: npt.ArrayLike, q: float) -> Any:
    """The Harrell-Davis estimate of quantile ``q`` along the last axis of ``values``.

    A weighted mean of all order statistics, with weights from the Beta((n+1)q, (n+1)(1-q))
    distribution (Harrell and Davis, Biometrika 69, 1982): steadier than one order statistic, most of
    all in small samples. ``values`` has shape (..., n), n >= 1; the result has shape (...).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    return ordered @ _weights(ordered.shape[-1], q)


@lru_cache(maxsize=256)
def _weights(n: int, q: float) -> Floats:
    edges = betainc((n + 1) * q, (n + 1) * (1 - q), np.arange(n + 1) / n)
    return np.asarray(np.diff(edges), dtype=np.float64)


def metric_of(values: npt.ArrayLike, metric: str) -> Any:
    """``metric`` along the last axis of ``values``, shape (..., n) to (...)."""
    q = parse_metric(metric)
    return np.mean(np.asarray(values, dtype=np.float64), axis=-1) if q is None else harrell_davis(values, q)


def parse_metric(metric: str) -> float | None:
    """The quantile that ``metric`` names, in (0, 1); None for the mean. Raises UsageError for anything else."""
    if metric == "mean":
        return None
    match = re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)", metric)
    q = float(match[1]) / 100 if match else 0.0
    if not 0 < q < 1:
        raise UsageError(f"unknown metric '{metric}'; known: {', '.join(METRICS)}, or any other quantile, such as p75 or p99.9")
    return q


def requests_needed(metric: str) -> int:
    """Requests that a run should hold before ``metric`` may be trusted: BEYOND of them past the quantile."""
    q = parse_metric(metric)
    return 1 if q is None else ceil(round(BEYOND / min(q, 1 - q), 6))


def requests_least(metric: str) -> int:
    """Requests below which ``metric`` is no more than the extreme of the run under another name."""
    q = parse_metric(metric)
    return 1 if q is None else ceil(round(1 / min(q, 1 - q), 6))
