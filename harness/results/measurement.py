"""A measurement in memory, and which of its runs count: reports, pictures, gates and calibrations all start here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.schema import RUN_COLUMNS


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that does not count. ``kind``: ``void`` (a proof failed), ``failed`` (a request failed) or ``interrupted``.

    ``noted``: run.json says that it was cut off, so an experiment that was resumed has measured it again.
    """

    run: int
    arm: str
    kind: str
    reason: str
    noted: bool = False


@dataclass(frozen=True, slots=True)
class Measurement:
    """A results folder read back: all runs of one measurement.

    ``requests`` and ``spans`` have exactly the columns and dtypes of schema.py.
    """

    path: Path
    meta: dict[str, Any]
    requests: pd.DataFrame
    spans: pd.DataFrame

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The runs that do not count, by number: one void or failed request voids its whole run, and so does an interruption."""
        rows = self.requests
        reasons = rows["void"].fillna(rows["error"])
        reasons = reasons.where(reasons.notna() | rows["ttft_s"].notna(), "no first token")
        bad = reasons.notna() & rows["run"].notna()
        failed = set(rows["run"][bad & (rows["error"].notna() | rows["void"].isna())])
        found = {int(run): str(reason) for run, reason in zip(rows["run"][bad][::-1], reasons[bad][::-1], strict=True)}
        noted = {int(entry["run"]): str(entry["reason"]) for entry in self.meta.get("void_runs") or ()}
        unfinished = {int(entry["run"]) for entry in self.meta.get("runs") or () if not entry.get("done", True)}
        cut = unfinished | {run for run, reason in noted.items() if reason == "interrupted"}
        known = dict.fromkeys(sorted(unfinished), "interrupted") | noted | found
        kinds = {
            run: "interrupted" if reason == "interrupted" else "failed" if run in failed else "void"
            for run, reason in known.items()
        }
        short = _short(rows[~rows["run"].isin(list(known))])
        arms = {int(entry["run"]): str(entry.get("arm") or "") for entry in self.meta.get("runs") or ()} | _arm_of_run(rows)
        return tuple(
            LeftOut(run, arms.get(run, ""), kinds.get(run, "interrupted"), reason, run in cut)
            for run, reason in sorted((known | short).items())
        )

    @property
    def void_runs(self) -> dict[int, str]:
        """The runs that do not count, and why."""
        return {lost.run: lost.reason for lost in self.left_out}

    @property
    def runs(self) -> pd.DataFrame:
        """One row per run, RUN_COLUMNS, in the order of run.json; a run that only ``requests`` knows stands at the end."""
        void = self.void_runs
        rows: dict[int, Mapping[str, Any]] = {entry["run"]: entry for entry in self.meta.get("runs") or ()}
        known = self.requests.dropna(subset=["run"]).drop_duplicates("run")
        for run, number, arm in zip(known["run"], known["round"], known["arm"], strict=True):
            rows.setdefault(int(run), {"round": None if pd.isna(number) else int(number), "arm": arm})
        cells = [{**row, "run": run, "void": void.get(run)} for run, row in rows.items()]
        kinds = {"Int64": int, "string": str, "boolean": bool}  # another kind was written by hand: an empty cell
        columns = {
            name: [row.get(name) if isinstance(row.get(name), kinds[kind]) else None for row in cells]
            for name, kind in RUN_COLUMNS.items()
        }
        return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in RUN_COLUMNS.items()})

    @property
    def counted(self) -> pd.DataFrame:
        """The rows that count: those of runs that are not left out."""
        rows = self.requests
        return rows[~rows["run"].isin(list(self.void_runs)) & rows["run"].notna()]


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
