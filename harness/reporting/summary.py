"""The numbers of each arm, with what qualifies them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.errors import ResultsError
from harness.evidence import Arm, Evidence
from harness.stats import METRICS, Comparison, Interval, Share, compare, requests_needed, share_hidden, summary
from harness.stats.compare import few_requests
from harness.stats.quantiles import requests_least

METRIC = "p50"
"""The metric of verdicts: one slow request, which any machine has now and then, does not move it."""

MEANS = ("queue_s", "lookup_s", "load_s", "stall_s", "compute_s", "hit_tokens", "bytes", "operations")
"""Columns of requests.csv whose mean a request is told, over the requests to which the thing applies."""


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


def blocking_arm(arms: Sequence[Arm]) -> Arm | None:
    """The chunkwise arm without a pool, which hides nothing; where there is none, the first chunkwise arm."""
    chunkwise = [arm for arm in arms if arm.engine == "chunkwise"]
    return next((arm for arm in chunkwise if str(arm.options.get("pool", 0)) == "0"), chunkwise[0] if chunkwise else None)


def _arm(evidence: Evidence, arm: Arm, table: pd.DataFrame, chunkwise: Arm | None) -> ArmSummary:
    rows = evidence.of(arm)
    if rows.empty:
        return ArmSummary(arm, 0, 0, {}, {}, None, {}, frozenset(), ())
    row = table.loc[arm.name]
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
    doubts = next((list(one.warnings) for one in found if one.metric == METRIC), [])
    return {one.metric: one for one in found}, doubts


def _share(evidence: Evidence, arm: Arm, chunkwise: Arm | None) -> Share | None:
    floor = next((other for other in evidence.arms if other.engine == "floor" and len(evidence.of(other))), None)
    if chunkwise is None or floor is None or arm.bound or arm == chunkwise:
        return None
    try:
        return share_hidden(evidence.rows, arm.name, chunkwise.name, floor.name, METRIC)
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
            needs = ", ".join(f"{metric} at least {requests_least(metric)}" for metric in untold)
            warnings.append(f"the shortest run has {smallest} request{'s' if smallest > 1 else ''}; to be told at all needs {needs}")
        if thin:
            needs = ", ".join(f"{metric} at least {requests_needed(metric)}" for metric in thin)
            warnings.append(f"* rests on few requests: the shortest run has {smallest}; to be trusted needs {needs}")
    warnings += [f"{arm.arm.name} has no request that counts" for arm in arms if not arm.requests]
    by_text: dict[str, list[str]] = {}
    for arm in arms:
        for text in arm.warnings:
            by_text.setdefault(text, []).append(arm.arm.name)
    everywhere = sum(1 for arm in arms if arm.requests)
    warnings += [text if len(names) == everywhere > 1 else f"{', '.join(names)}: {text}" for text, names in by_text.items()]
    return list(dict.fromkeys(warnings))


def finite(value: float | None) -> float | None:
    """None in place of what no file or table should hold as a number: infinities and not-a-number."""
    return value if value is not None and np.isfinite(value) else None
