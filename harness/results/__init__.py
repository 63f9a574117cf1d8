"""A run's folder on disk: written row by row while measuring, read back by reports and gates.

    run.json       what was run, where, with what; schema version; void runs and why
    requests.csv   one row per request (REQUEST_COLUMNS), appended as soon as it exists
    spans.jsonl    one object per span (SPAN_COLUMNS), appended at the end of each run
    *.cut          what a resumed measurement cut off: the part of a row or line that a crash had left

``load`` reads it as DataFrames, docs/results.md has their columns; ``write_parquet`` writes these as Parquet beside it.

Seconds and bytes are plain numbers; a cell is empty if a thing does not apply.
"""

from harness.results.csv_rows import complete_lines, complete_rows
from harness.results.export import write_parquet
from harness.results.measurement import Measurement
from harness.results.reading import load
from harness.results.schema import REQUEST_COLUMNS, RUN_COLUMNS, SCHEMA, SPAN_COLUMNS
from harness.results.writing import RunWriter

__all__ = [
    "REQUEST_COLUMNS",
    "RUN_COLUMNS",
    "SCHEMA",
    "SPAN_COLUMNS",
    "Measurement",
    "RunWriter",
    "complete_lines",
    "complete_rows",
    "load",
    "write_parquet",
]
