"""llm-d's benchmark report, version 0.2 (github.com/llm-d/llm-d-benchmark): one file per arm, since it has one system a report.

Its files end in .yaml. These are JSON, which every reader of YAML takes, so that no YAML package is needed.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.errors import ResultsError
from harness.core.text import printable, slug
from harness.reporting.exports.numbers import facts
from harness.reporting.summary import ArmSummary, Summary
from harness.stats.serving import serving

QUANTILES = ("p50", "p90", "p95", "p99")


def write_llm_d(summary: Summary, folder: Path) -> list[Path]:
    """One report per arm that has requests which count; none of the floor, which serves nothing real.

    Raises ResultsError if there is none, or it cannot be written.
    """
    arms = [arm for arm in summary.arms if arm.requests and arm.arm.engine != "floor"]
    if not arms:
        raise ResultsError(f"{summary.evidence.run.path} has no request that counts, so there is nothing to report")
    written = []
    for arm in arms:
        file = folder / f"benchmark_report_v0.2,_{slug(arm.arm.name)}.yaml"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(report(summary, arm), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ResultsError(f"{file} cannot be written: {error.strerror}; give another folder with --out") from error
        written.append(file)
    return written


def report(summary: Summary, arm: ArmSummary) -> dict[str, Any]:
    """The report of one arm. Statistics of TTFT are the centres of the runs, as in our own report; others pool its requests."""
    meta, told = summary.evidence.run.meta, facts(summary)
    name = printable(arm.arm.name)
    own = {"arm": name, "options": {key: str(value) for key, value in arm.arm.options.items()}}
    run: dict[str, Any] = {
        "uid": uuid.uuid5(uuid.NAMESPACE_URL, f"{told['measurement']}/{meta.get('started')}/{name}").hex,
        "eid": uuid.uuid5(uuid.NAMESPACE_URL, f"{told['measurement']}/{meta.get('started')}").hex,
        "description": f"{told['model']} [{told['measurement']}] {name}",
    }
    times = {key: meta[name] for key, name in (("start", "started"), ("end", "ended")) if meta.get(name)}
    return {
        "version": "0.2",
        "run": {**run, "time": times} if times else run,
        "scenario": {"stack": [_stack(told, own)], "load": _load(summary, arm, told)},
        "results": {"request_performance": {"aggregate": _aggregate(summary, arm)}},
    }


def _stack(told: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
    parts = {**own, "model": told["model"], "dtype": told["dtype"], "store": told["store"]}
    return {
        "metadata": {"schema_version": "0.0.1", "label": "vllm", "cfg_id": _digest(parts)},
        "standardized": {"kind": "generic", "tool": "vllm", "tool_version": told["vllm"], **parts},
        "native": {},
    }


def _load(summary: Summary, arm: ArmSummary, told: Mapping[str, str]) -> dict[str, Any]:
    rows = summary.evidence.of(arm.arm)
    concurrency = told["concurrency"]
    asked = {name: told[name] for name in ("workload", "cache_state", "page_cache")}
    lengths = rows["prompt_tokens"].dropna()
    found: dict[str, Any] = {"tool": "ttft", "tool_version": told["ttft"], "source": _source(told["workload"])}
    found["input_seq_len"] = {
        "distribution": "fixed" if lengths.nunique() == 1 else "other",
        "value": float(lengths.mean()) if len(lengths) else 0,
    }
    if concurrency.isdigit():
        found["concurrency"] = int(concurrency)
    return {
        "metadata": {"schema_version": "0.0.1", "cfg_id": _digest(asked), "description": told["workload"]},
        "standardized": found,
        "native": {"config": asked},
    }


def _source(workload: str) -> str:
    """Traces have a path; what has none is made from numbers."""
    return "sampled" if "path=" in workload else "random"


def _aggregate(summary: Summary, arm: ArmSummary) -> dict[str, Any]:
    rows = summary.evidence.of(arm.arm)
    everything = summary.evidence.run.requests
    mine = everything[everything["arm"] == arm.arm.name]
    table: Mapping[Any, Any] = serving(rows).set_index("arm").loc[arm.arm.name].to_dict()
    ttft: dict[str, Any] = {"units": "s", "mean": arm.ttft["mean"].value if "mean" in arm.ttft else float(rows["ttft_s"].mean())}
    ttft |= {name: arm.ttft[name].value for name in QUANTILES if name in arm.ttft}
    ttft |= {"min": float(rows["ttft_s"].min()), "max": float(rows["ttft_s"].max())}
    latency = {
        "time_to_first_token": ttft,
        "time_per_output_token": _statistics(rows["tpot_s"], "s/token"),
        "request_latency": _statistics(rows["e2e_s"], "s"),
    }
    throughput = {
        "request_rate": _rate(table["requests_per_s"], "queries/s"),
        "output_token_rate": _rate(table["output_tokens_per_s"], "tokens/s"),
    }
    requests = {
        "total": len(mine),
        "failures": int(mine["error"].notna().sum()),
        "input_length": _statistics(rows["prompt_tokens"], "count"),
        "output_length": _statistics(rows["output_tokens"], "count"),
    }
    parts: dict[str, dict[str, Any]] = {"requests": requests, "latency": latency, "throughput": throughput}
    return {name: {key: value for key, value in part.items() if value is not None} for name, part in parts.items()}


def _statistics(values: "pd.Series[float]", units: str) -> dict[str, Any] | None:
    values = values.dropna().astype("float64")
    if values.empty:
        return None
    found: dict[str, Any] = {"units": units, "mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
    if len(values) > 1:
        found["stddev"] = float(values.std())
    return found | {name: float(values.quantile(int(name[1:]) / 100)) for name in QUANTILES}


def _rate(value: float, units: str) -> dict[str, Any] | None:
    return None if pd.isna(value) else {"units": units, "mean": float(value)}


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
