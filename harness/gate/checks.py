"""Why rows must not be judged. Each check gives findings: what is wrong, where, and what to do."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.core.findings import Finding, Kind, found
from harness.replay.lag import lag_reason
from harness.results import Measurement
from harness.results.evidence import BOUNDS, engine_of
from harness.results.measurement import LeftOut


def usable(measurement: Measurement) -> tuple[pd.DataFrame, list[Finding]]:
    """All rows but those of runs that were interrupted (a resumed experiment measured them again), and a note."""
    rows = measurement.requests
    there = rows["run"].isin([lost.run for lost in measurement.left_out if lost.noted])
    if not there.any():
        return rows, []
    return rows[~there], [found(Kind.RUNS_CUT_OFF, runs=tuple(int(run) for run in sorted(rows.loc[there, "run"].unique())))]


def refusals(measurement: Measurement, rows: pd.DataFrame, arms: Iterable[str]) -> list[Finding]:
    """All reasons against judging ``arms`` by ``rows`` of ``measurement``; empty if there are none."""
    arms, meta = list(dict.fromkeys(arms)), measurement.meta
    rows = rows[rows["arm"].isin(arms)]
    here = set(rows["run"].dropna())
    lost = [one for one in measurement.left_out if one.run in here]
    reasons = [*_proof(meta), *_void(lost, rows), *_given_up(meta, arms), *_failed(rows), *_times(rows)]
    counted = rows[rows["void"].isna() & rows["error"].isna()]
    loading = counted[~counted["arm"].isin(without_real_kv(meta, arms))]
    return [*reasons, *_hits(counted), *_sizes(lost, rows), *_outputs(loading), *_lag(counted)]


def without_real_kv(meta: Mapping[str, Any], arms: Iterable[str]) -> set[str]:
    """The arms that load no KV, whose tokens may differ: as run.json says, else by the engine's name."""
    told = {str(arm.get("name")): bool(arm["loads_kv"]) for arm in _entries(meta, "arms") if "loads_kv" in arm}
    return {arm for arm in arms if not told.get(arm, engine_of(arm) not in BOUNDS)}


def no_candidate(meta: Mapping[str, Any], arm: str) -> list[Finding]:
    """A finding if ``arm`` grants hits and loads nothing: it would pass any gate, and answers with wrong tokens."""
    told = next((entry for entry in _entries(meta, "arms") if entry.get("name") == arm and "loads_kv" in entry), None)
    real = told["loads_kv"] or not told.get("grants_hits") if told else engine_of(arm) != "floor"
    return [] if real else [found(Kind.NO_CANDIDATE, arm)]


def _entries(meta: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [entry for entry in meta.get(name) or () if isinstance(entry, Mapping)]


def _proof(meta: Mapping[str, Any]) -> list[Finding]:
    proof = meta.get("correctness") or {}
    failed = proof.get("status") == "failed"
    return [found(Kind.NO_PROOF, detail=str(proof.get("detail") or "the arms give different tokens"))] if failed else []


def _void(lost: Iterable[LeftOut], rows: pd.DataFrame) -> list[Finding]:
    void = [one for one in lost if one.kind == "void"]
    if not void:
        return []
    total = int(rows["run"].nunique())
    return [found(Kind.RUNS_VOID, void[0].arm, count=len(void), total=total, run=void[0].run, reason=void[0].reason)]


def _given_up(meta: Mapping[str, Any], arms: Collection[str]) -> list[Finding]:
    """Its rounds before it failed may all be there, and fast."""
    return [
        found(Kind.GIVEN_UP, str(entry["arm"]), reason=entry.get("reason"))
        for entry in _entries(meta, "failed_arms")
        if entry.get("arm") in arms
    ]


def _failed(rows: pd.DataFrame) -> list[Finding]:
    reasons = []
    for arm, some in rows[rows["error"].notna()].groupby("arm", sort=False):
        row = some.iloc[0]
        facts = {"count": len(some), "total": int((rows["arm"] == arm).sum()), "reason": str(row["error"])}
        reasons.append(found(Kind.FAILED_REQUESTS, str(arm), run=int(row["run"]), prompt=str(row["prompt"]), **facts))
    return reasons


def _times(rows: pd.DataFrame) -> list[Finding]:
    sound = rows[rows["void"].isna() & rows["error"].isna()]
    values = sound["ttft_s"].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~(np.isfinite(values) & (values > 0))
    if not wrong.any():
        return []
    row, value = sound.iloc[int(np.argmax(wrong))], float(values[int(np.argmax(wrong))])
    return [found(Kind.NO_TIME, str(row["arm"]), count=int(wrong.sum()), value=value, **_place(row))]


def _place(row: "pd.Series[Any]") -> dict[str, Any]:
    return {"run": int(row["run"]), "prompt": str(row["prompt"])}


def _hits(rows: pd.DataFrame) -> list[Finding]:
    known = rows[rows["hit_tokens"].notna() & rows["expected_hit_tokens"].notna()]
    wrong = known[known["hit_tokens"] != known["expected_hit_tokens"]]
    if len(wrong):
        row = wrong.iloc[0]
        tokens = {"hit": int(row["hit_tokens"]), "expected": int(row["expected_hit_tokens"])}
        return [found(Kind.HITS_WRONG, str(row["arm"]), count=len(wrong), **tokens, **_place(row))]
    # Where two arms are meant to hit differently (recompute hits nothing), the expectation has been checked above.
    unknown = rows[rows["expected_hit_tokens"].isna() & rows["hit_tokens"].notna()]
    return _differing(unknown, "hit_tokens", Kind.HITS_DIFFER)


def _outputs(rows: pd.DataFrame) -> list[Finding]:
    """Of equal hits only: an arm that takes less of one loads other KV, and in bfloat16 that alone may change the tokens."""
    told = (("output_digest", Kind.TOKENS_DIFFER), ("kv_digest", Kind.KV_DIFFERS))
    return [finding for column, kind in told for finding in _differing(rows, column, kind, ("prompt", "hit_tokens"))]


def _sizes(lost: Iterable[LeftOut], rows: pd.DataFrame) -> list[Finding]:
    short = [one for one in lost if one.kind == "interrupted" and not one.noted]
    reasons = _differing(rows, "prompt_tokens", Kind.LENGTHS_DIFFER)
    if short:
        first, total = short[0], int(rows["run"].nunique())
        reasons.append(found(Kind.RUNS_SHORT, first.arm, count=len(short), total=total, run=first.run, reason=first.reason))
    return reasons


def _differing(rows: pd.DataFrame, column: str, kind: Kind, by: Sequence[str] = ("prompt",)) -> list[Finding]:
    """A finding if rows that agree in ``by`` have more than one value in ``column``; empty cells of ``column`` say nothing."""
    known = rows[rows[column].notna()]
    different = known[known.groupby(list(by), sort=False, dropna=False)[column].transform("nunique") > 1]
    if different.empty:
        return []
    prompts = different["prompt"].unique()
    arms = tuple(str(arm) for arm in different.loc[different["prompt"] == prompts[0], "arm"].unique())
    return [found(kind, count=len(prompts), arms=arms, prompt=str(prompts[0]))]


def _lag(rows: pd.DataFrame) -> list[Finding]:
    planned = rows[rows["planned_s"].notna() & rows["sent_s"].notna()]
    reasons = []
    for arm, some in planned.groupby("arm", sort=False):
        reason = lag_reason((some["sent_s"] - some["planned_s"]).tolist(), some["ttft_s"].tolist())
        if reason:
            reasons.append(found(Kind.LAGGED, str(arm), reason=reason))
    return reasons
