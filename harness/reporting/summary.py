"""The numbers of each arm, with what qualifies them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.core.errors import ResultsError
from harness.results.evidence import Arm, Evidence
from harness.stats import METRICS, Comparison, Interval, Share, compare, requests_needed, share_hidden, summary
from harness.stats.compare import few_requests
from harness.stats.quantiles import requests_least

WORDS = {"p50": "median TTFT", "mean": "mean TTFT"}
"""The metrics of verdicts, as words."""

MEANS = {
    "queue_s": "queue_mean_s",
    "lookup_s": "lookup_mean_s",
    "load_s": "load_mean_s",
    "stall_s": "stall_mean_s",
    "compute_s": "compute_mean_s",
    "hit_tokens": "hit_tokens_mean",
    "bytes": "bytes_mean",
    "operations": "operations_mean",
    "keys": "keys_mean",
}
"""Columns of requests.csv whose mean a request is told, over the requests to which the thing applies, and its name."""


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm. Times are seconds; what could not be told is absent from the mappings or None.

    ``ttft`` holds for each metric the centre of the runs and its interval; ``ratios`` the comparison
    with the first arm; ``thin`` names the metrics that rest on too few requests a run to be trusted.
    """

    arm: Arm
    runs: int
    requests: int
    ttft: Mapping[str, Interval]
    ratios: Mapping[str, Comparison]
    share: Share | None
    means: Mapping[str, float]
    thin: frozenset[str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """All arms of a run. ``chunkwise`` is the blocking arm, against which the share of load hidden is told."""

    evidence: Evidence
    arms: tuple[ArmSummary, ...]
    chunkwise: Arm | None
    warnings: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The metric of the verdict: the median, which one slow request does not move; where it can't be told, the mean."""
        return _metric(self.evidence)

    @property
    def measured(self) -> tuple[ArmSummary, ...]:
        """The arms that are no bounds and have requests that count."""
        return tuple(arm for arm in self.arms if not arm.arm.bound and arm.requests)

    @property
    def first(self) -> ArmSummary | None:
        """The arm that the others are compared with; None where none of its requests counts."""
        first = self.evidence.first
        return next((arm for arm in self.arms if arm.arm == first and arm.requests), None)


def summarise(evidence: Evidence) -> Summary:
    """Compute everything that a report tells. Raises ResultsError where a TTFT is no time at all."""
    rows = evidence.rows
    table = summary(rows).set_index("arm") if len(rows) else pd.DataFrame()
    chunkwise = blocking_arm([arm for arm in evidence.arms if arm.name in table.index])
    arms = tuple(_arm(evidence, arm, table, chunkwise) for arm in evidence.arms)
    return Summary(evidence, arms, chunkwise, tuple(_warnings(evidence, arms)))


def _metric(evidence: Evidence) -> str:
    return "p50" if min(_smallest(evidence), default=0) >= requests_least("p50") else "mean"


def blocking_arm(arms: Sequence[Arm]) -> Arm | None:
    """The chunkwise arm without a pool, which hides nothing; where there is none, the first chunkwise arm."""
    chunkwise = [arm for arm in arms if arm.engine == "chunkwise"]
    return next((arm for arm in chunkwise if str(arm.options.get("pool", 0)) == "0"), chunkwise[0] if chunkwise else None)


def _arm(evidence: Evidence, arm: Arm, table: pd.DataFrame, chunkwise: Arm | None) -> ArmSummary:
    rows = evidence.of(arm)
    if rows.empty:
        return ArmSummary(arm, 0, 0, {}, {}, None, {}, frozenset(), ())
    row: Mapping[Any, Any] = table.loc[arm.name].to_dict()
    smallest = int(rows.groupby("run").size().min())
    told = [metric for metric in METRICS if smallest >= requests_least(metric)]
    ttft = {name: Interval(*(float(row[f"{name}{end}_s"]) for end in ("", "_low", "_high"))) for name in told}
    ratios, doubts = _ratios(evidence, arm, told)
    share = _share(evidence, arm, chunkwise)
    means = {name: float(rows[name].mean()) for name in MEANS if rows[name].notna().any()}
    # That a metric needs more requests is said once for all arms, beside the table.
    few = {few_requests(metric, number) for metric in METRICS for number in {smallest, *_smallest(evidence)}}
    warnings = [*str(row["warnings"]).split("; "), *doubts, *(share.warnings if share else ())]
    warnings = [text for text in dict.fromkeys(warnings) if text and text not in few]
    thin = frozenset(metric for metric in told if smallest < requests_needed(metric))
    return ArmSummary(arm, int(row["runs"]), len(rows), ttft, ratios, share, means, thin, tuple(warnings))


def _smallest(evidence: Evidence) -> set[int]:
    return {int(size) for size in evidence.rows.groupby("run").size()}


def _ratios(evidence: Evidence, arm: Arm, metrics: Sequence[str]) -> tuple[dict[str, Comparison], list[str]]:
    first = evidence.first
    if first is None or arm == first or evidence.of(first).empty:
        return {}, []
    try:
        found = compare(evidence.rows, first.name, arm.name, metrics)
    except ResultsError as error:  # no round has a run of both
        return {}, [str(error)]
    if arm.bound:  # no candidate: whether it paired well is nobody's question
        return {one.metric: one for one in found}, []
    doubts = next((list(one.warnings) for one in found if one.metric == _metric(evidence)), [])
    return {one.metric: one for one in found}, doubts


def _share(evidence: Evidence, arm: Arm, chunkwise: Arm | None) -> Share | None:
    floor = next((other for other in evidence.arms if other.engine == "floor" and len(evidence.of(other))), None)
    if chunkwise is None or floor is None or arm.bound or arm == chunkwise:
        return None
    try:
        return share_hidden(evidence.rows, arm.name, chunkwise.name, floor.name, _metric(evidence))
    except ResultsError:  # no round has all three; the missing ratio says so already
        return None


def _warnings(evidence: Evidence, arms: Sequence[ArmSummary]) -> list[str]:
    warnings = list(evidence.caveats)
    sizes = _smallest(evidence)
    if sizes:
        smallest = min(sizes)
        untold = [metric for metric in METRICS if smallest < requests_least(metric)]
        thin = [metric for metric in METRICS if metric not in untold and smallest < requests_needed(metric)]
        if untold:
            warnings.append(f"not told: {_needs(untold, requests_least)}; the shortest run has {smallest}")
        if thin:
            warnings.append(f"* unsure: {_needs(thin, requests_needed)}; the shortest run has {smallest}")
    warnings += [f"{arm.arm.name} has no request that counts" for arm in arms if not arm.requests]
    by_text: dict[str, list[str]] = {}
    for arm in arms:
        for text in arm.warnings:
            by_text.setdefault(text, []).append(arm.arm.name)
    everywhere = [{arm.arm.name for arm in arms if arm.requests}, {arm.arm.name for arm in arms if arm.ratios}]
    for text, names in by_text.items():
        said = set(names) in everywhere or (len(names) == 1 and f"'{names[0]}'" in text)
        warnings.append(text if said else f"{', '.join(names)}: {text}")
    return list(dict.fromkeys(warnings))


def _needs(metrics: Sequence[str], requests: Callable[[str], int]) -> str:
    first, *rest = metrics
    others = "".join(f", {metric} ({requests(metric)})" for metric in rest)
    return f"{first} (needs {requests(first)} requests a run){others}"


def finite(value: float | None) -> float | None:
    """None in place of what no file or table should hold as a number: infinities and not-a-number."""
    return value if value is not None and np.isfinite(value) else None
