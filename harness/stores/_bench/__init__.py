"""What a store does by itself: time of a call and bandwidth over object size, threads, event loops and batch size.

settings and cells (settings.py) -> rounds in which every cell runs once (measuring.py) -> summary, fit -> tables, picture
"""

from harness.stores._bench.conduct import LEAST, LongTable, conduct, notes
from harness.stores._bench.limits import Limit, limit_of
from harness.stores._bench.measuring import Bench, needed
from harness.stores._bench.settings import (
    QUICK,
    USUAL,
    BenchSettings,
    Cell,
    Loops,
    cells_of,
    parse_loops,
    parse_numbers,
    parse_sizes,
)
from harness.stores._bench.summary import Estimate, LinkFit, Summary, fit_link

__all__ = [
    "LEAST",
    "QUICK",
    "USUAL",
    "Bench",
    "BenchSettings",
    "Cell",
    "Estimate",
    "Limit",
    "LinkFit",
    "LongTable",
    "Loops",
    "Summary",
    "cells_of",
    "conduct",
    "fit_link",
    "limit_of",
    "needed",
    "notes",
    "parse_loops",
    "parse_numbers",
    "parse_sizes",
]
