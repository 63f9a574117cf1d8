"""What a history holds: a verdict as rows."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from harness.core.text import printable
from harness.gate.verdict import Outcome, Verdict
from harness.results import Measurement
from harness.results.conditions import identity

SCHEMA = "1.0"
"""Major, minor; as for results."""

COLUMNS: Mapping[str, str] = {
    "schema": "string",  # version of this row's columns
    "time": "string",  # when the measurement began, UTC, ISO 8601
    "run": "string",  # name of the run
    "commit": "string",  # what was measured: --label, or the CI's commit; empty if unknown
    "arm": "string",  # the candidate
    "base": "string",  # what it was held against
    "metric": "string",  # p50, p95, mean, ...
    "ratio": "float64",  # candidate over base; empty if the verdict was refused before anything was compared
    "low": "float64",  # the bounds that decided; empty if nothing is known
    "high": "float64",
    "margin": "float64",  # 0.05 tolerates a ratio of 1.05
    "outcome": "string",  # PASS, FAIL, INCONCLUSIVE or REFUSED
    "n_pairs": "Int64",  # pairs of runs behind the ratio
    "machine": "string",  # digest of the machine; equal digests are equal machines
}
COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA")
"""Where GitHub Actions and GitLab CI name the commit."""


def rows_of(
    verdict: Verdict, margins: Mapping[str, float], measurement: Measurement, label: str | None = None
) -> list[dict[str, object]]:
    """A verdict as rows, keys are COLUMNS: one for each metric of ``margins``, also where nothing could be compared.

    ``measurement`` is the candidate's; ``label`` its commit, by default what the CI says.
    """
    found = {metric.metric: metric for metric in verdict.metrics}
    commit = label if label is not None else next((os.environ[name] for name in COMMITS if os.environ.get(name)), "")
    shared = {
        "schema": SCHEMA,
        "time": _utc(measurement.meta.get("started")),
        "run": printable(measurement.meta.get("id") or measurement.path.name),
        "commit": printable(commit),
        "arm": printable(verdict.candidate),
        "base": printable(verdict.base),
        "machine": machine_digest(measurement.meta.get("machine") or {}),
    }
    rows: list[dict[str, object]] = []
    for metric, margin in margins.items():
        row: dict[str, object] = {**shared, "metric": metric, "margin": margin}
        if metric in found:
            one = found[metric]
            bounds = {"low": _finite(one.low, above=0.0), "high": _finite(one.high)}
            row |= {"ratio": _finite(one.ratio), **bounds, "outcome": str(one.outcome), "n_pairs": one.n_pairs}
        else:
            row |= {"ratio": None, "low": None, "high": None, "outcome": str(Outcome.REFUSED), "n_pairs": verdict.n_pairs}
        rows.append({column: row[column] for column in COLUMNS})
    return rows


def machine_digest(machine: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that stand for run.json's ``machine``, as far as it decides a time."""
    return hashlib.sha256(json.dumps(identity(machine), sort_keys=True, default=str).encode()).hexdigest()[:12]


def _utc(started: object) -> str:
    """The start of a run in UTC; now, where run.json does not tell it."""
    try:
        return datetime.fromisoformat(str(started)).astimezone(UTC).isoformat(timespec="seconds")
    except ValueError:
        return datetime.now(UTC).isoformat(timespec="seconds")


def _finite(value: float, above: float = -math.inf) -> float | None:
    return value if math.isfinite(value) and value > above else None
