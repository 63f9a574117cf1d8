"""One arm pair's ratios by one metric, in the order of time."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.core.errors import UsageError, known
from harness.gate.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Series:
    """``rows`` are the history's, of verdicts that were not refused, in time order; ``refused`` were left out.

    A run that was judged again counts once, by its last verdict.
    """

    arm: str
    base: str
    metric: str
    rows: pd.DataFrame
    refused: int

    @property
    def times(self) -> "pd.Series[pd.Timestamp]":
        """When each measurement began, in UTC."""
        return pd.to_datetime(self.rows["time"], utc=True, format="ISO8601")


def series_of(history: pd.DataFrame, metrics: Sequence[str] = (), arms: Sequence[str] = ()) -> list[Series]:
    """All series of ``history`` (rows as ``harness.gate.history.read`` gives them), or those of ``metrics`` and ``arms`` only.

    Raises UsageError for a metric or arm that the history does not hold, and where no row is left.
    """
    for what, names in (("metric", metrics), ("arm", arms)):
        there = list(dict.fromkeys(history[what]))
        for name in names:
            if name not in there:
                raise known(f"{what} in the history", name, there)
    wanted = history[
        history["metric"].isin(list(metrics) or history["metric"]) & history["arm"].isin(list(arms) or history["arm"])
    ]
    last = wanted.drop_duplicates(["time", "run", "arm", "base", "metric"], keep="last")
    found: list[Series] = []
    for (arm, base, metric), rows in last.groupby(["arm", "base", "metric"], sort=False):
        judged = rows[rows["outcome"] != str(Outcome.REFUSED)]
        times = pd.to_datetime(judged["time"], utc=True, format="ISO8601")
        ordered = judged.loc[times.sort_values(kind="stable").index].reset_index(drop=True)
        if len(ordered):
            found.append(Series(str(arm), str(base), str(metric), ordered, len(rows) - len(judged)))
    if not found:
        raise UsageError(
            "the history holds no verdict that could be shown (none, or all refused); add some with `ttft gate --history`"
        )
    return found
