"""A sweep's verdict in one sentence."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.core.findings import counted
from harness.experiment.sweep.state import State
from harness.reporting.figures.style import three_digits
from harness.reporting.sweep.crossings import Found
from harness.reporting.wording import ratio


def metric_of(table: pd.DataFrame) -> str:
    """The metric of the verdict: p50 if every measured point has it, else the mean."""
    told = table[table["metric"].notna()]
    by_point = told.groupby("point")["metric"].agg(set)
    return "p50" if len(by_point) and all("p50" in metrics for metrics in by_point) else "mean"


def headline(state: State, table: pd.DataFrame, found: Sequence[Found]) -> str:
    """What the sweep shows, with its state in front and a full stop at the end."""
    return f"{_state(state, table)}{_sentence(table, found)}."


def _state(state: State, table: pd.DataFrame) -> str:
    points = len(state.grid.points)
    statuses = table.drop_duplicates("point")["status"]
    failed, void = int((statuses == "failed").sum()), int((statuses == "void").sum())
    waiting = points - failed - int(statuses.isin(["complete", "void"]).sum())
    text = f"{failed} OF {points} POINTS FAILED: " if failed else ""
    text += f"{void} OF {points} POINTS HAVE VOID RUNS: " if void else ""
    return text + (f"PARTIAL, {waiting} OF {points} POINTS ARE NOT MEASURED: " if waiting else "")


def _sentence(table: pd.DataFrame, found: Sequence[Found]) -> str:
    metric = metric_of(table)
    rows = candidates(table, metric)
    if rows.empty:
        measured = table[table["metric"] == metric]
        return "no verdict, since " + ("no point was measured" if measured.empty else "there is nothing to compare")
    best = _best(rows)
    mine = rows[rows["arm"] == best]
    base, n = str(mine["base"].iloc[0]), len(mine)
    faster, slower = int((mine["ratio_high"] < 1).sum()), int((mine["ratio_low"] > 1).sum())
    low, high = float(mine["ratio"].min()), float(mine["ratio"].max())
    span = f"{metric} ratio {ratio(low)}" + (f" to {ratio(high)}" if ratio(low) != ratio(high) else "")
    if faster == n:
        return f"{best} is faster than {base} at {_all(n)} ({span}){_change(found, base, best)}"
    if faster + slower == 0:
        return f"no difference shown between {best} and {base} at {_any(n)} ({span}){_change(found, base, best)}"
    parts = [f"faster at {faster}"] * bool(faster) + [f"slower at {slower}"] * bool(slower)
    open_ = n - faster - slower
    parts += [f"no difference shown at {open_}"] * bool(open_)
    told = f"{', '.join(parts)} of {counted(n, 'point')} ({span})"
    return f"{best} is, against {base}, {told}{_change(found, base, best)}"


def candidates(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows that hold an arm, no bound, against the first one."""
    rows = table[(table["metric"] == metric) & table["ratio"].notna() & (table["arm"] != table["base"])]
    return rows[~rows["engine"].isin(["floor", "recompute"])]


def _best(rows: pd.DataFrame) -> str:
    """The arm whose ratios are lowest, as their geometric mean over the points."""
    means = np.log(rows["ratio"]).groupby(rows["arm"], sort=False).mean()
    return str(means.idxmin())


def _change(found: Sequence[Found], base: str, candidate: str) -> str:
    mine = [one for one in found if (one.base, one.candidate) == (base, candidate) and one.crossing.kind == "one"]
    if not mine:
        return ""
    if len(mine) == 1:
        return f"; {mine[0].finding if not mine[0].elsewhere else mine[0].sentence}"
    parts = []
    for axis in dict.fromkeys(one.axis for one in mine):
        pairs = dict.fromkeys(one.crossing.between[0] for one in mine if one.axis == axis)
        spans = (f"{three_digits(low or 0.0)} and {three_digits(high or 0.0)}" for low, high in pairs)
        parts.append(f"{axis} between {' or '.join(spans)}")
    return f"; the lead changes along {' and along '.join(parts)}, depending on the other axis"


def _all(n: int) -> str:
    return "the one point" if n == 1 else "both points" if n == 2 else f"all {n} points"


def _any(n: int) -> str:
    return "the one point" if n == 1 else "either of 2 points" if n == 2 else f"any of {n} points"
