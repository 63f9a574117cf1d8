"""What of a measurement counts, by arm, and what has to be said about the rest: reports and pictures start here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.core.findings import Finding, Kind, found
from harness.core.text import redact, without_secrets
from harness.results.measurement import LeftOut, Measurement

BOUNDS = {"floor": "hit granted, nothing loaded: its KV is not real", "recompute": "no hit: everything is computed"}
"""The engines that bound the others from below and above, and what they do."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of fetching, as run.json lists it. ``order`` counts from 0, measured arms before bounds."""

    name: str
    engine: str
    options: Mapping[str, Any] = field(hash=False)
    order: int

    @property
    def bound(self) -> bool:
        """True for ``floor`` and ``recompute``, which are no candidates."""
        return self.engine in BOUNDS


@dataclass(frozen=True, slots=True)
class Evidence:
    """A run without the rows that do not count.

    ``rows`` has REQUEST_COLUMNS; ``findings`` has the gravest first; ``left_out`` is in the order of the runs;
    ``whole``: every round that was planned is complete.
    """

    run: Measurement
    arms: tuple[Arm, ...]
    rows: pd.DataFrame
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    whole: bool = False

    @property
    def worthless(self) -> bool:
        """Whether nothing that was measured counts, or nothing says which runs do."""
        nothing = self.rows.empty and len(self.run.requests) > 0
        return nothing or (self.run.meta.get("status") == "void" and not self.left_out)

    @property
    def partial(self) -> bool:
        """Whether the measurement was cut off before its last round."""
        return str(self.run.meta.get("status", "partial")) == "partial" and not self.whole

    @property
    def first(self) -> Arm | None:
        """The arm that the others are compared with: the first that the user named."""
        return next((arm for arm in self.arms if not arm.bound), self.arms[0] if self.arms else None)

    def of(self, arm: Arm) -> pd.DataFrame:
        """The counted rows of one arm."""
        return self.rows[self.rows["arm"] == arm.name]

    def lost(self, kind: str) -> list[LeftOut]:
        """The runs that are left out for one kind of reason."""
        return [run for run in self.left_out if run.kind == kind]

    def setting(self, name: str, default: str = "unknown") -> str:
        """One value of run.json's ``config``; a store's URL comes without its secrets."""
        value = str((self.run.meta.get("config") or {}).get(name) or default)
        return without_secrets(redact(value) if name == "store" else value)


def gather(measurement: Measurement) -> Evidence:
    """Which runs count, and what has to be said about the measurement. Changes nothing on disk."""
    meta, left_out, rows = measurement.meta, measurement.left_out, measurement.counted
    findings = [
        *_void(measurement, left_out),
        *_proof(meta),
        *_partial(measurement, left_out),
        *_failed(measurement, left_out),
        *(found(Kind.ARM_FAILED, str(one["arm"]), reason=one["reason"]) for one in meta.get("failed_arms") or ()),
        *(found(Kind.RUN_CUT_OFF, lost.arm, run=lost.run, reason=lost.reason) for lost in left_out if lost.kind == "interrupted"),
        *_hits(rows),
        *(found(Kind.RECORDED, text=str(text)) for text in meta.get("warnings") or ()),
        *(found(Kind.DATA_NOTE, text=str(text)) for text in (meta.get("data") or {}).get("notes") or ()),
    ]
    whole = _whole_rounds(measurement, left_out) == (meta.get("config") or {}).get("pairs")
    return Evidence(measurement, _arms(measurement), rows, tuple(dict.fromkeys(findings)), left_out, whole)


def _arms(measurement: Measurement) -> tuple[Arm, ...]:
    """The arms of run.json, and those that only the rows know (an old or damaged run.json); bounds last."""
    known = [
        (str(arm["name"]), str(arm.get("engine") or engine_of(arm["name"])), arm.get("options") or {})
        for arm in measurement.meta.get("arms") or ()
        if isinstance(arm, Mapping) and arm.get("name")
    ]
    names = {name for name, _, _ in known}
    known += [(name, engine_of(name), {}) for name in measurement.requests["arm"].dropna().unique() if name not in names]
    known.sort(key=lambda arm: arm[1] in BOUNDS)
    return tuple(Arm(*arm, order) for order, arm in enumerate(known))


def engine_of(arm: object) -> str:
    """The engine that an arm's name begins with."""
    return str(arm).partition(":")[0].partition("@")[0]


def _void(measurement: Measurement, left_out: Iterable[LeftOut]) -> list[Finding]:
    by_reason: dict[str, list[int]] = {}
    for lost in left_out:
        if lost.kind == "void":
            by_reason.setdefault(lost.reason, []).append(lost.run)
    total = int(measurement.requests["run"].nunique())
    return [
        found(Kind.VOID_RUNS, count=len(numbers), total=total, runs=tuple(numbers), reason=reason)
        for reason, numbers in by_reason.items()
    ]


def _proof(meta: Mapping[str, Any]) -> list[Finding]:
    proof = meta.get("correctness") or {}
    if proof.get("status") == "failed":
        return [found(Kind.CORRECTNESS_FAILED, detail=str(proof.get("detail") or "the arms do not give the same tokens"))]
    return [found(Kind.CORRECTNESS_SKIPPED)] if proof.get("status") == "skipped" else []


def _partial(measurement: Measurement, left_out: Iterable[LeftOut]) -> list[Finding]:
    meta, findings = measurement.meta, []
    pairs, rounds = (meta.get("config") or {}).get("pairs"), _whole_rounds(measurement, left_out)
    planned, why = pairs if isinstance(pairs, int) else None, str(meta["ended_by"]) if meta.get("ended_by") else None
    if meta.get("status") == "partial" and rounds != planned:
        findings.append(found(Kind.PARTIAL, why=why, rounds=rounds, planned=planned))
    stopped = meta.get("stopped") or {}
    if stopped and meta.get("plan"):  # only a gate declares one; it has looked at the times, which a budget does not
        findings.append(found(Kind.LOOKED, rounds=stopped.get("rounds") or 0, reason=str(stopped.get("reason"))))
    elif stopped:
        findings.append(found(Kind.STOPPED, reason=str(stopped.get("reason"))))
    return findings


def _whole_rounds(measurement: Measurement, left_out: Iterable[LeftOut]) -> int:
    """Rounds with a run that counts of every arm; bounds may be measured in some rounds only."""
    rows = measurement.requests[~measurement.requests["arm"].map(engine_of).isin(list(BOUNDS))]
    counting = rows[~rows["run"].isin([lost.run for lost in left_out])]
    return int((counting.groupby("round")["arm"].nunique() == rows["arm"].nunique()).sum())


def _failed(measurement: Measurement, left_out: Iterable[LeftOut]) -> list[Finding]:
    failed: dict[str, list[LeftOut]] = {}
    for lost in left_out:
        if lost.kind == "failed":
            failed.setdefault(lost.arm, []).append(lost)
    rows, findings = measurement.requests, []
    for arm, lost_runs in failed.items():
        numbers = tuple(lost.run for lost in lost_runs)
        requests = int((rows["run"].isin(numbers) & (rows["error"].notna() | rows["ttft_s"].isna())).sum())
        facts = {"requests": requests, "count": len(numbers), "runs": numbers, "reason": lost_runs[0].reason}
        findings.append(found(Kind.REQUESTS_FAILED, arm, **facts))
    return findings


def _hits(rows: pd.DataFrame) -> list[Finding]:
    wrong = rows[(rows["hit_tokens"] != rows["expected_hit_tokens"]).fillna(False)]
    return [found(Kind.WRONG_HITS, str(arm), count=len(some)) for arm, some in wrong.groupby("arm")]
