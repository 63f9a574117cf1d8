"""What of a run counts, and what has to be said about the rest.

Reports, pictures and gates start here, so that all of them leave out the same rows for the same reasons.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.core.text import redact, without_secrets
from harness.results.measurement import Measurement

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
class LeftOut:
    """A run that does not count. ``kind``: ``void`` (a proof failed), ``failed`` (a request failed) or ``interrupted``."""

    run: int
    arm: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A run without the rows that do not count.

    ``rows`` has REQUEST_COLUMNS; ``caveats`` are sentences, the gravest first; ``left_out`` is in the order of the runs.
    """

    run: Measurement
    arms: tuple[Arm, ...]
    rows: pd.DataFrame
    caveats: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def worthless(self) -> bool:
        """Whether nothing that was measured counts, or nothing says which runs do."""
        nothing = self.rows.empty and len(self.run.requests) > 0
        return nothing or (self.run.meta.get("status") == "void" and not self.left_out)

    @property
    def partial(self) -> bool:
        """Whether the measurement was cut off."""
        return str(self.run.meta.get("status", "partial")) == "partial"

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


def gather(run: Measurement) -> Evidence:
    """Sort a run's rows into those that count and reasons for the others. Changes nothing on disk."""
    left_out = _left_out(run)
    rows = run.counted
    rows = rows[~rows["run"].isin([lost.run for lost in left_out]) & rows["ttft_s"].notna()]
    caveats = [
        *_void_caveats(left_out, run),
        *_status_caveats(run, left_out),
        *_failed_caveats(left_out, run),
        *(f"FAILED: {one['arm']} did not make it to the end: {one['reason']}" for one in run.meta.get("failed_arms") or ()),
        *(f"run {lost.run} ({lost.arm}) is left out: {lost.reason}" for lost in left_out if lost.kind == "interrupted"),
        *_hit_caveats(rows),
        *(str(text) for text in run.meta.get("warnings") or ()),
        *(str(text) for text in (run.meta.get("data") or {}).get("notes") or ()),
    ]
    return Evidence(run, _arms(run), rows, tuple(dict.fromkeys(map(without_secrets, caveats))), left_out)


def _arms(run: Measurement) -> tuple[Arm, ...]:
    """The arms of run.json, and those that only the rows know (an old or damaged run.json); bounds last."""
    known = [
        (str(arm["name"]), str(arm.get("engine") or _engine(arm["name"])), arm.get("options") or {})
        for arm in run.meta.get("arms") or ()
        if isinstance(arm, Mapping) and arm.get("name")
    ]
    names = {name for name, _, _ in known}
    known += [(name, _engine(name), {}) for name in run.requests["arm"].dropna().unique() if name not in names]
    known.sort(key=lambda arm: arm[1] in BOUNDS)
    return tuple(Arm(*arm, order) for order, arm in enumerate(known))


def _engine(name: object) -> str:
    return str(name).partition(":")[0]


def _left_out(run: Measurement) -> tuple[LeftOut, ...]:
    rows = run.requests
    failed = set(rows.loc[rows["error"].notna() | (rows["ttft_s"].isna() & rows["void"].isna()), "run"].dropna())
    arms = {**{entry["run"]: entry.get("arm", "") for entry in run.meta.get("runs") or ()}, **_arm_of_run(rows)}
    found = {}
    for number, reason in run.void_runs.items():
        kind = "interrupted" if reason == "interrupted" else "failed" if number in failed else "void"
        found[number] = LeftOut(number, arms.get(number, ""), kind, reason)
    for number, reason in _short(rows[~rows["run"].isin(list(found))]).items():
        found[number] = LeftOut(number, arms.get(number, ""), "interrupted", reason)
    return tuple(found[number] for number in sorted(found))


def _arm_of_run(rows: pd.DataFrame) -> dict[int, str]:
    named = rows.dropna(subset=["run", "arm"]).drop_duplicates("run")
    return {int(number): str(arm) for number, arm in zip(named["run"], named["arm"], strict=True)}


def _short(rows: pd.DataFrame) -> dict[int, str]:
    """Runs that stopped before their last prompt (a crash leaves no note): not comparable with those that did not."""
    sizes = rows.groupby("run").size()
    full = int(sizes.max()) if len(sizes) else 0
    return {
        int(number): f"it stopped after {size} of {full} requests"
        for number, size in zip(sizes.index, sizes, strict=True)
        if size < full
    }


def _void_caveats(left_out: Iterable[LeftOut], run: Measurement) -> list[str]:
    by_reason: dict[str, list[int]] = {}
    for lost in left_out:
        if lost.kind == "void":
            by_reason.setdefault(lost.reason, []).append(lost.run)
    total = run.requests["run"].nunique()
    return [
        f"VOID: {len(numbers)} of {total} runs ({_listed(numbers)}) do not count and are left out: {reason}"
        for reason, numbers in by_reason.items()
    ]


def _status_caveats(run: Measurement, left_out: Iterable[LeftOut]) -> list[str]:
    meta, caveats = run.meta, []
    proof = meta.get("correctness") or {}
    if proof.get("status") == "failed":
        caveats.append(f"CORRECTNESS FAILED: {proof.get('detail') or 'the arms do not give the same tokens'}")
    elif proof.get("status") == "skipped":
        caveats.append("the correctness pass was skipped, so nothing shows that the arms load the right KV")
    if meta.get("status") == "partial":
        planned = (meta.get("config") or {}).get("pairs")
        wanted = f" of {planned}" if planned else ""
        why = f" ({meta['ended_by']})" if meta.get("ended_by") else ""
        caveats.append(f"PARTIAL: the measurement was cut off{why}; {_whole_rounds(run, left_out)}{wanted} rounds are complete")
    stopped = meta.get("stopped") or {}
    if stopped:
        caveats.append(
            f"a gate ended this after {stopped.get('rounds')} rounds: {stopped.get('reason')}; the intervals here do not "
            "correct for looking early, the gate's verdict does"
        )
    return caveats


def _whole_rounds(run: Measurement, left_out: Iterable[LeftOut]) -> int:
    """Rounds with a run that counts of every arm; bounds may be measured in some rounds only."""
    rows = run.requests[~run.requests["arm"].map(_engine).isin(list(BOUNDS))]
    counting = rows[~rows["run"].isin([lost.run for lost in left_out])]
    return int((counting.groupby("round")["arm"].nunique() == rows["arm"].nunique()).sum())


def _failed_caveats(left_out: Iterable[LeftOut], run: Measurement) -> list[str]:
    failed: dict[str, list[LeftOut]] = {}
    for lost in left_out:
        if lost.kind == "failed":
            failed.setdefault(lost.arm, []).append(lost)
    rows, caveats = run.requests, []
    for arm, lost_runs in failed.items():
        numbers = [lost.run for lost in lost_runs]
        requests = int((rows["run"].isin(numbers) & (rows["error"].notna() | rows["ttft_s"].isna())).sum())
        caveats.append(
            f"{requests} request{'s' if requests > 1 else ''} of {arm} failed, so {len(numbers)} of its runs "
            f"({_listed(numbers)}) {'are' if len(numbers) > 1 else 'is'} left out; the first failed with: {lost_runs[0].reason}"
        )
    return caveats


def _hit_caveats(rows: pd.DataFrame) -> list[str]:
    wrong = rows[(rows["hit_tokens"] != rows["expected_hit_tokens"]).fillna(False)]
    return [f"{len(some)} requests of {arm} did not hit what the workload implies" for arm, some in wrong.groupby("arm")]


def _listed(numbers: Iterable[int], most: int = 8) -> str:
    numbers = list(numbers)
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
