"""Verdicts over time: one row a metric and verdict, appended to a CSV or Parquet file that ``ttft trend`` reads.

    check(path)                              say early what would keep it from being appended to
    rows_of(verdict, margins, run, label)    a verdict as rows
    append(path, rows)                       safe where several jobs share the file
    read(path) -> DataFrame                  validated; a damaged file is refused

Ratios travel between machines, seconds do not: a history holds only ratios.
"""

from harness.history.file import append, check, read
from harness.history.rows import COLUMNS, SCHEMA, machine_digest, rows_of

__all__ = ["COLUMNS", "SCHEMA", "append", "check", "machine_digest", "read", "rows_of"]
