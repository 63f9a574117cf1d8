"""A sweep's table for the terminal: a row a point and arm."""

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from harness.core.text import printable, shortened
from harness.experiment.sweep.state import State
from harness.reporting.sweep.markdown import cell_of
from harness.reporting.table import LONGEST_NAME
from harness.results.evidence import BOUNDS


def terminal_table(state: State, table: pd.DataFrame, metric: str) -> Table:
    """TTFT and ratio of each arm at each point; of a point that was not measured, why."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for axis in state.grid.point_axes:
        shown.add_column(Text(printable(axis.key)), justify="right", overflow="fold")
    shown.add_column("arm", overflow="fold", min_width=12)
    shown.add_column(f"{metric}, and its ratio to the first arm's (95% interval)", overflow="fold")
    gaps = (table["metric"] == "gap_p95").any()
    if gaps:
        shown.add_column("neighbours' p95 gap", overflow="fold")
    for place in state.grid.points:
        mine = table[table["point"] == place.number]
        keys = [Text(printable(value)) for value in place.values.values()]
        rows = mine[mine["metric"] == metric]
        if rows.empty:
            first = mine.iloc[0]
            reason = "" if pd.isna(first["reason"]) else f": {first['reason']}"
            shown.add_row(*keys, "-", Text(f"{first['status']}{reason}"), *([Text("")] if gaps else []))
        for number, (_, row) in enumerate(rows.iterrows()):
            name = shortened(printable(row["arm"]), LONGEST_NAME) + (" †" if row["engine"] in BOUNDS else "")
            beside = mine[(mine["metric"] == "gap_p95") & (mine["arm"] == row["arm"])]
            heard = [Text(cell_of(beside.iloc[0]) if len(beside) else "-")] if gaps else []
            shown.add_row(*(keys if number == 0 else [Text("")] * len(keys)), Text(name), Text(cell_of(row)), *heard)
    return shown
