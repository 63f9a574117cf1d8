"""What of a run counts, and what has to be said about the rest.

Reports, pictures and gates start here, so that all of them leave out the same rows for the same reasons.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.labels import without_secrets
from harness.results import Run
from harness.stores.base import redact

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

    ``rows`` has REQUEST_COLUMNS; ``caveats`` are sentences, the gravest first; ``void_runs`` maps the
    number of a void run to why; ``failed`` is the number of failed requests.
    """

    run: Run
    arms: tuple[Arm, ...]
    rows: pd.DataFrame
    caveats: tuple[str, ...]
    void_runs: Mapping[int, str]
    failed: int

    @property
    def status(self) -> str:
        """``complete``, ``partial`` or ``void``; void also where no row is left and some were void."""
        if self.void_runs and self.rows.empty:
            return "void"
        return str(self.run.meta.get("status", "partial"))

    @property
    def first(self) -> Arm | None:
        """The arm that the others are compared with: the first that the user named."""
        return next((arm for arm in self.arms if not arm.bound), self.arms[0] if self.arms else None)

    def of(self, arm: Arm) -> pd.DataFrame:
        """The counted rows of one arm."""
        return self.rows[self.rows["arm"] == arm.name]

    def setting(self, name: str, default: str = "unknown") -> str:
        """One value of run.json's ``config``; a store's URL comes without its secrets."""
        value = str((self.run.meta.get("config") or {}).get(name) or default)
        return without_secrets(redact(value) if name == "store" else value)


def gather(run: Run) -> Evidence:
    """Sort a run's rows into those that count and reasons for the others. Changes nothing on disk."""
    void_runs = _void_runs(run)
    voided = run.requests["void"].notna() | run.requests["run"].isin(list(void_runs))
    failed = run.requests[~voided & (run.requests["error"].notna() | run.requests["ttft_s"].isna())]
    short = _unfinished(run.requests[~voided])
    rows = run.counted
    rows = rows[~rows["run"].isin([*void_runs, *short])]
    caveats = [
        *_void_caveats(void_runs, run),
        *_status_caveats(run),
        *short.values(),
        *_failed_caveats(failed),
        *_hit_caveats(rows),
        *(str(text) for text in run.meta.get("warnings") or ()),
        *(str(text) for text in (run.meta.get("data") or {}).get("notes") or ()),
    ]
    return Evidence(run, _arms(run), rows, tuple(dict.fromkeys(map(without_secrets, caveats))), void_runs, len(failed))


def _arms(run: Run) -> tuple[Arm, ...]:
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


def _void_runs(run: Run) -> dict[int, str]:
    """From the rows and from run.json: some proofs fail only after a run's rows are written."""
    rows = run.requests[run.requests["void"].notna() & run.requests["run"].notna()]
    found = {int(number): str(reason) for number, reason in zip(rows["run"], rows["void"], strict=True)}
    for entry in run.meta.get("void_runs") or ():
        if isinstance(entry, Mapping) and entry.get("run") is not None:
            found[int(entry["run"])] = str(entry.get("reason") or "no reason was written down")
    return dict(sorted(found.items()))


def _unfinished(rows: pd.DataFrame) -> dict[int, str]:
    """Runs that stopped before their last prompt: on fewer prompts than the others, so not comparable."""
    sizes = rows.groupby("run").size()
    full = int(sizes.max()) if len(sizes) else 0
    arms = rows.groupby("run")["arm"].first()
    return {
        int(number): f"run {number} ({arm}) stopped after {size} of {full} requests and is left out"
        for number, size, arm in zip(sizes.index, sizes, arms, strict=True)
        if size < full
    }


def _void_caveats(void_runs: Mapping[int, str], run: Run) -> list[str]:
    by_reason: dict[str, list[int]] = {}
    for number, reason in void_runs.items():
        by_reason.setdefault(reason, []).append(number)
    total = run.requests["run"].nunique()
    return [
        f"VOID: {len(numbers)} of {total} runs ({_listed(numbers)}) do not count and are left out: {reason}"
        for reason, numbers in by_reason.items()
    ]


def _status_caveats(run: Run) -> list[str]:
    meta, caveats = run.meta, []
    proof = meta.get("correctness") or {}
    if proof.get("status") == "failed":
        caveats.append(f"CORRECTNESS FAILED: {proof.get('detail') or 'the arms do not give the same tokens'}")
    elif proof.get("status") == "skipped":
        caveats.append("the correctness pass was skipped, so nothing shows that the arms load the right KV")
    if meta.get("status") == "partial":
        planned = (meta.get("config") or {}).get("pairs")
        wanted = f" of {planned}" if planned else ""
        done = _complete_rounds(run)
        caveats.append(f"PARTIAL: the measurement was cut off; {done}{wanted} rounds are complete")
    return caveats


def _complete_rounds(run: Run) -> int:
    rows = run.requests
    if rows.empty:
        return 0
    sizes = rows.groupby(["pair", "arm"]).size().unstack(fill_value=0)
    return int((sizes == sizes.to_numpy().max()).all(axis=1).sum())


def _failed_caveats(failed: pd.DataFrame) -> list[str]:
    caveats = []
    for arm, rows in failed.groupby("arm"):
        reason = rows["error"].dropna()
        why = f"; the first with: {reason.iloc[0]}" if len(reason) else ""
        number = f"{len(rows)} request{'s' if len(rows) > 1 else ''}"
        caveats.append(f"{number} of {arm} failed and {'are' if len(rows) > 1 else 'is'} left out{why}")
    return caveats


def _hit_caveats(rows: pd.DataFrame) -> list[str]:
    wrong = rows[(rows["hit_tokens"] != rows["expected_hit_tokens"]).fillna(False)]
    return [f"{len(some)} requests of {arm} did not hit what the workload implies" for arm, some in wrong.groupby("arm")]


def _listed(numbers: Iterable[int], most: int = 8) -> str:
    numbers = list(numbers)
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")
