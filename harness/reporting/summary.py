"""The numbers of each arm, with what qualifies them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.core.errors import ResultsError
from harness.core.findings import Finding, Kind, found
from harness.results.evidence import Arm, Evidence
from harness.stats import METRICS, Comparison, Interval, Share, compare, requests_needed, share_hidden, summary
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
"""Columns of requests.csv, and the names of their means per request, over the requests to which the thing applies."""


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm. Times are seconds; what cannot be shown is absent from the mappings or None.

    ``ttft`` holds for each metric the centre of the runs and its interval; ``ratios`` the comparison
    with the first arm; ``thin`` names the metrics that rest on too few requests per run to be trusted.
    """

    arm: Arm
    runs: int
    requests: int
    ttft: Mapping[str, Interval]
    ratios: Mapping[str, Comparison]
    share: Share | None
    means: Mapping[str, float]
    thin: frozenset[str]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """All arms of a measurement. ``chunkwise`` is the blocking arm, to which the share of load hidden refers."""

    evidence: Evidence
    arms: tuple[ArmSummary, ...]
    chunkwise: Arm | None
    findings: tuple[Finding, ...]

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
        """The arm that the others are compared with; None if none of its requests counts."""
        first = self.evidence.first
        return next((arm for arm in self.arms if arm.arm == first and arm.requests), None)


def summarise(evidence: Evidence) -> Summary:
    """Compute the numbers of a report. Raises ResultsError if a TTFT is no time at all."""
    rows = evidence.rows
    table = summary(rows).set_index("arm") if len(rows) else pd.DataFrame()
    chunkwise = blocking_arm([arm for arm in evidence.arms if arm.name in table.index])
    arms = tuple(_arm(evidence, arm, table, chunkwise) for arm in evidence.arms)
    return Summary(evidence, arms, chunkwise, _findings(evidence, arms))


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
    findings = dict.fromkeys([*row["warnings"], *doubts, *(share.warnings if share else ())])
    # That a metric needs more requests is said once for all arms, beside the table.
    kept = tuple(one for one in findings if one.kind not in (Kind.FEW_REQUESTS, Kind.EXTREME))
    thin = frozenset(metric for metric in told if smallest < requests_needed(metric))
    return ArmSummary(arm, int(row["runs"]), len(rows), ttft, ratios, share, means, thin, kept)


def _smallest(evidence: Evidence) -> set[int]:
    return {int(size) for size in evidence.rows.groupby("run").size()}


def _ratios(evidence: Evidence, arm: Arm, metrics: Sequence[str]) -> tuple[dict[str, Comparison], list[Finding]]:
    first = evidence.first
    if first is None or arm == first or evidence.of(first).empty:
        return {}, []
    try:
        ratios = {one.metric: one for one in compare(evidence.rows, first.name, arm.name, metrics)}
    except ResultsError as error:  # no round has a run of both
        return {}, [found(Kind.NOT_COMPARED, arm.name, reason=str(error))]
    if arm.bound or _metric(evidence) not in ratios:  # no candidate: whether it paired well is nobody's question
        return ratios, []
    return ratios, list(ratios[_metric(evidence)].warnings)


def _share(evidence: Evidence, arm: Arm, chunkwise: Arm | None) -> Share | None:
    floor = next((other for other in evidence.arms if other.engine == "floor" and len(evidence.of(other))), None)
    if chunkwise is None or floor is None or arm.bound or arm == chunkwise:
        return None
    try:
        return share_hidden(evidence.rows, arm.name, chunkwise.name, floor.name, _metric(evidence))
    except ResultsError:  # no round has all three; the missing ratio says so already
        return None


def _findings(evidence: Evidence, arms: Sequence[ArmSummary]) -> tuple[Finding, ...]:
    """What was found, the gravest first; what holds for some arms only says for which."""
    findings = list(evidence.findings)
    smallest = min(_smallest(evidence), default=None)
    if smallest is not None:
        hidden = [metric for metric in METRICS if smallest < requests_least(metric)]
        thin = [metric for metric in METRICS if metric not in hidden and smallest < requests_needed(metric)]
        for kind, metrics, needed in ((Kind.NOT_SHOWN, hidden, requests_least), (Kind.UNSURE, thin, requests_needed)):
            if metrics:
                findings.append(found(kind, metrics=tuple((one, needed(one)) for one in metrics), smallest=smallest))
    findings += [found(Kind.NO_REQUEST, arm.arm.name) for arm in arms if not arm.requests]
    arms_of: dict[Finding, list[str]] = {}
    for arm in arms:
        for one in arm.findings:
            arms_of.setdefault(one, []).append(arm.arm.name)
    everywhere = [{arm.arm.name for arm in arms if arm.requests}, {arm.arm.name for arm in arms if arm.ratios}]
    findings += [one if set(names) in everywhere else one.limited(*names) for one, names in arms_of.items()]
    return tuple(dict.fromkeys(findings))


def finite(value: float | None) -> float | None:
    """None in place of what no file or table should hold as a number: infinities and not-a-number."""
    return value if value is not None and np.isfinite(value) else None
