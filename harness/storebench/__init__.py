"""What a store does by itself: time of a call and bandwidth over object size, threads, event loops and batch size.

settings -> cells (cells.py) -> rounds in which every cell runs once (measuring.py) -> summary, fit -> tables, picture
"""

from harness.storebench.cells import Cell, cells_of
from harness.storebench.conduct import LEAST, LongTable, conduct, notes
from harness.storebench.fit import LinkFit, fit_link
from harness.storebench.limits import Limit, limit_of
from harness.storebench.measuring import Bench, needed
from harness.storebench.settings import QUICK, USUAL, BenchSettings, Loops, parse_loops, parse_numbers, parse_sizes
from harness.storebench.summary import Estimate, Summary

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
