"""Why rows must not be judged. Each check gives sentences: what is wrong, where, and what to do."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.replay.lag import lag_reason
from harness.results import Measurement
from harness.results.evidence import BOUNDS


def usable(run: Measurement) -> tuple[pd.DataFrame, list[str]]:
    """All rows but those of runs that were interrupted (a resumed experiment measured them again), and a note."""
    meta = run.meta
    unfinished = {int(entry["run"]) for entry in _entries(meta, "runs") if not entry.get("done", True)}
    unfinished |= {int(entry["run"]) for entry in _entries(meta, "void_runs") if entry.get("reason") == "interrupted"}
    there = run.requests["run"].isin(list(unfinished))
    if not there.any():
        return run.requests, []
    numbers = ", ".join(str(number) for number in sorted(run.requests.loc[there, "run"].unique()))
    return run.requests[~there], [f"runs that were cut off are left out: {numbers}"]


def refusals(run: Measurement, rows: pd.DataFrame, arms: Iterable[str]) -> list[str]:
    """All reasons against judging ``arms`` by ``rows`` of ``run``; empty where there are none."""
    arms = list(dict.fromkeys(arms))
    rows = rows[rows["arm"].isin(arms)]
    found = [*_proof(run.meta), *_void(run.meta, rows), *_given_up(run.meta, arms), *_failed(rows), *_times(rows)]
    counted = rows[rows["void"].isna() & rows["error"].isna()]
    exempt = without_real_kv(run.meta, arms)
    return [*found, *_hits(counted), *_sizes(counted), *_outputs(counted[~counted["arm"].isin(exempt)]), *_lag(counted)]


def without_real_kv(meta: Mapping[str, Any], arms: Iterable[str]) -> set[str]:
    """The arms that load no KV, whose tokens may differ: as run.json says, else by the engine's name."""
    told = {str(arm.get("name")): bool(arm["loads_kv"]) for arm in _entries(meta, "arms") if "loads_kv" in arm}
    return {arm for arm in arms if not told.get(arm, engine_of(arm) not in BOUNDS)}


def no_candidate(meta: Mapping[str, Any], arm: str) -> list[str]:
    """A sentence where ``arm`` grants hits and loads nothing: it would pass any gate, and answers with wrong tokens."""
    told = next((entry for entry in _entries(meta, "arms") if entry.get("name") == arm and "loads_kv" in entry), None)
    real = told["loads_kv"] or not told.get("grants_hits") if told else engine_of(arm) != "floor"
    return [] if real else [f"'{arm}' loads nothing, so its KV is not real: it bounds the others from below and is no candidate"]


def engine_of(arm: str) -> str:
    """The engine that an arm's name begins with."""
    return arm.partition(":")[0].partition("@")[0]


def _entries(meta: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [entry for entry in meta.get(name) or () if isinstance(entry, Mapping)]


def _proof(meta: Mapping[str, Any]) -> list[str]:
    proof = meta.get("correctness") or {}
    if proof.get("status") != "failed":
        return []
    return [
        f"the correctness pass failed ({proof.get('detail') or 'the arms give different tokens'}); fast and wrong is not judged"
    ]


def _void(meta: Mapping[str, Any], rows: pd.DataFrame) -> list[str]:
    reasons = {int(entry["run"]): str(entry.get("reason")) for entry in _entries(meta, "void_runs") if "run" in entry}
    marked = rows[rows["void"].notna()]
    reasons |= {int(run): str(reason) for run, reason in zip(marked["run"], marked["void"], strict=True)}
    here = {run: reason for run, reason in reasons.items() if (rows["run"] == run).any()}
    if not here:
        return []
    first, runs = min(here), rows["run"].nunique()
    why = f"{len(here)} of {runs} runs are void, the first, run {first}, since: {here[first]}"
    return [f"{why}; find the cause and measure again"]


def _given_up(meta: Mapping[str, Any], arms: Collection[str]) -> list[str]:
    """Its rounds before it failed may all be there, and fast."""
    return [
        f"'{entry['arm']}' did not make it to the end: {entry.get('reason')}; an arm that fails is not faster"
        for entry in _entries(meta, "failed_arms")
        if entry.get("arm") in arms
    ]


def _failed(rows: pd.DataFrame) -> list[str]:
    found = []
    for arm, some in rows[rows["error"].notna()].groupby("arm", sort=False):
        row = some.iloc[0]
        total = int((rows["arm"] == arm).sum())
        found.append(
            f"{len(some)} of {total} requests of '{arm}' failed, the first in run {row['run']} (prompt {row['prompt']}): "
            f"{row['error']}; an arm that drops requests is not faster"
        )
    return found


def _times(rows: pd.DataFrame) -> list[str]:
    sound = rows[rows["void"].isna() & rows["error"].isna()]
    values = sound["ttft_s"].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~(np.isfinite(values) & (values > 0))
    if not wrong.any():
        return []
    row, value = sound.iloc[int(np.argmax(wrong))], values[int(np.argmax(wrong))]
    return [
        f"{int(wrong.sum())} requests have no TTFT above 0, the first in run {row['run']} of '{row['arm']}' "
        f"(prompt {row['prompt']}: {value:g} s); requests.csv is damaged or the clock is"
    ]


def _hits(rows: pd.DataFrame) -> list[str]:
    known = rows[rows["hit_tokens"].notna() & rows["expected_hit_tokens"].notna()]
    wrong = known[known["hit_tokens"] != known["expected_hit_tokens"]]
    if len(wrong):
        row = wrong.iloc[0]
        return [
            f"{len(wrong)} requests did not hit what the workload implies, the first in run {row['run']} of '{row['arm']}' "
            f"(prompt {row['prompt']}: {row['hit_tokens']} tokens, not {row['expected_hit_tokens']}); the arms did different work"
        ]
    # Where two arms are meant to hit differently (recompute hits nothing), the expectation has been checked above.
    unknown = rows[rows["expected_hit_tokens"].isna() & rows["hit_tokens"].notna()]
    return _differing(unknown, "hit_tokens", "hit different numbers of tokens", "the arms did different work")


def _outputs(rows: pd.DataFrame) -> list[str]:
    why = "at least one of them loads wrong KV or runs another model"
    return [
        *_differing(rows, "output_digest", "gave different tokens", why),
        *_differing(rows, "kv_digest", "had different KV in the paged cache", why),
    ]


def _sizes(rows: pd.DataFrame) -> list[str]:
    found = _differing(rows, "prompt_tokens", "had different lengths", "the arms did different work")
    if len(rows) == 0:
        return found
    sizes = rows.groupby("run").agg(arm=("arm", "first"), size=("arm", "size"))
    usual = int(sizes["size"].mode().max())
    odd = sizes[sizes["size"] != usual]
    if len(odd):
        run, first = odd.index[0], odd.iloc[0]
        found.append(
            f"{len(odd)} of {len(sizes)} runs differ in size, the first, run {run} of '{first['arm']}', has {first['size']} "
            f"requests where others have {usual}; finish the experiment with --resume or measure again"
        )
    return found


def _differing(rows: pd.DataFrame, column: str, did: str, why: str) -> list[str]:
    """A sentence where a prompt has more than one value in ``column``; empty cells say nothing."""
    known = rows[rows[column].notna()]
    values = known.groupby("prompt", sort=False)[column].nunique()
    differing = values.index[values > 1]
    if len(differing) == 0:
        return []
    arms = " and ".join(f"'{arm}'" for arm in known.loc[known["prompt"] == differing[0], "arm"].unique())
    return [f"{len(differing)} prompts {did} ({arms}, the first is prompt {differing[0]}); {why}"]


def _lag(rows: pd.DataFrame) -> list[str]:
    planned = rows[rows["planned_s"].notna() & rows["sent_s"].notna()]
    found = []
    for arm, some in planned.groupby("arm", sort=False):
        reason = lag_reason((some["sent_s"] - some["planned_s"]).tolist(), some["ttft_s"].tolist())
        if reason:
            found.append(f"arm '{arm}': {reason}")
    return found
