"""Verdicts over time: one row per metric and verdict, appended to a CSV or Parquet file that ``ttft trend`` reads.

    check(path)                              say early what would keep it from being appended to
    rows_of(verdict, margins, run, label)    a verdict as rows
    append(path, rows)                       safe where several jobs share the file
    read(path) -> DataFrame                  validated; a damaged file is refused
    series_of(read(path), metrics)           one Series an arm pair and metric, in the order of time
    change_points(log_ratios) -> [int]       places where a new level begins
    changes(series) -> [Change]              the same with times, commits and levels

Ratios travel between machines, seconds do not: a history holds only ratios.
"""

from harness.gate.history.changes import LEAST, Change, change_points, changes
from harness.gate.history.file import append, check, read
from harness.gate.history.rows import COLUMNS, SCHEMA, machine_digest, rows_of
from harness.gate.history.series import Series, series_of

__all__ = [
    "COLUMNS",
    "LEAST",
    "SCHEMA",
    "Change",
    "Series",
    "append",
    "change_points",
    "changes",
    "check",
    "machine_digest",
    "read",
    "rows_of",
    "series_of",
]
