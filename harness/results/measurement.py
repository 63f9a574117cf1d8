"""A measurement in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.schema import RUN_COLUMNS


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
    def void_runs(self) -> dict[int, str]:
        """Runs that do not count and why: one void or failed request voids its whole run, and so does an interruption."""
        rows = self.requests
        reasons = rows["void"].fillna(rows["error"])
        reasons = reasons.where(reasons.notna() | rows["ttft_s"].notna(), "no first token")
        bad = reasons.notna() & rows["run"].notna()
        found = {int(run): str(reason) for run, reason in zip(rows["run"][bad][::-1], reasons[bad][::-1], strict=True)}
        noted = {int(entry["run"]): str(entry["reason"]) for entry in self.meta.get("void_runs", [])}
        unfinished = {int(entry["run"]): "interrupted" for entry in self.meta.get("runs", []) if not entry.get("done")}
        return unfinished | noted | found

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run, RUN_COLUMNS, in the order of run.json; a run that only ``requests`` knows stands at the end."""
        void = self.void_runs
        rows: dict[int, Mapping[str, Any]] = {entry["run"]: entry for entry in self.meta.get("runs") or ()}
        known = self.requests.dropna(subset=["run"]).drop_duplicates("run")
        for run, pair, arm in zip(known["run"], known["round"], known["arm"], strict=True):
            rows.setdefault(int(run), {"round": None if pd.isna(pair) else int(pair), "arm": arm})
        cells = [{**row, "run": run, "void": void.get(run)} for run, row in rows.items()]
        kinds = {"Int64": int, "string": str, "boolean": bool}  # another kind was written by hand: an empty cell
        columns = {
            name: [row.get(name) if isinstance(row.get(name), kinds[kind]) else None for row in cells]
            for name, kind in RUN_COLUMNS.items()
        }
        return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in RUN_COLUMNS.items()})

    @property
    def counted(self) -> pd.DataFrame:
        """The rows that count: those of runs that are not void."""
        rows = self.requests
        return rows[~rows["run"].isin(list(self.void_runs)) & rows["run"].notna()]
