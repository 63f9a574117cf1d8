"""A run in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True, slots=True)
class Run:
    """A run read back. ``requests`` and ``spans`` have exactly the columns and dtypes of schema.py."""

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
    def counted(self) -> pd.DataFrame:
        """The rows that count: those of runs that are not void."""
        rows = self.requests
        return rows[~rows["run"].isin(list(self.void_runs)) & rows["run"].notna()]
