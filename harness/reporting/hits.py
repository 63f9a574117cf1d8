"""Requests that hit apart from those that miss, where a run has both: a miss loads nothing, so no way of fetching gains there."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.core.errors import ResultsError
from harness.core.findings import counted
from harness.core.table import Cell, Table
from harness.reporting.grids import bounds_of, name_of, time_unit
from harness.reporting.summary import ArmSummary, Summary
from harness.reporting.wording import compared, seconds
from harness.stats import Interval, compare
from harness.stats import summary as centres
from harness.stats.quantiles import requests_least


def hits(summary: Summary) -> Table | None:
    """Each arm's TTFT over the requests of which the store holds whole chunks, and over the others; None without both.

    Whether a request hits is the workload's, not the arm's: ``recompute`` stands beside the others over the same requests.
    """
    rows = summary.evidence.rows
    if rows.empty:
        return None
    held = rows.groupby("prompt")["expected_hit_tokens"].transform("max") > 0
    groups = {"hits": rows[held], "misses": rows[~held]}
    if any(group.empty for group in groups.values()):
        return None
    unit, head, columns = time_unit(summary), ["arm"], []
    for name, group in groups.items():
        smallest = int(group.groupby("run").size().min())
        metric = "p50" if smallest >= requests_least("p50") else "mean"
        head += [f"{name}, {counted(smallest, 'request')} per run: {metric} ({unit})", "/ first arm's"]
        columns.append(_column(summary, group, metric, unit))
    table = [[name_of(arm), *(cell for column in columns for cell in column[arm.arm.name])] for arm in summary.arms]
    return Table("Requests that hit, and requests that miss", head, table)


def _column(summary: Summary, rows: pd.DataFrame, metric: str, unit: str) -> dict[str, list[Cell]]:
    """By arm two cells: its centre over the runs of ``rows`` and its ratio to the first arm's."""
    table = centres(rows, [metric]).set_index("arm")
    found = {}
    for arm in summary.arms:
        if arm.arm.name not in table.index:
            found[arm.arm.name] = [Cell("-"), Cell("-")]
            continue
        told: Mapping[Any, Any] = table.loc[arm.arm.name].to_dict()
        one = Interval(*(float(told[f"{metric}{end}_s"]) for end in ("", "_low", "_high")))
        time = Cell(seconds(one.value, unit), bounds_of(one, unit))
        found[arm.arm.name] = [time, Cell("1") if arm is summary.first else _ratio(summary, arm, rows, metric)]
    return found


def _ratio(summary: Summary, arm: ArmSummary, rows: pd.DataFrame, metric: str) -> Cell:
    if summary.first is None:
        return Cell("-")
    try:
        return compared(compare(rows, summary.first.arm.name, arm.arm.name, [metric])[0])
    except ResultsError:  # no round has a run of both
        return Cell("-")
