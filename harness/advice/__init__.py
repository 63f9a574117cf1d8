"""Which arm the model of harness.model recommends for a store and a model, before anything is measured.

It searches a grid of arms by the same predictions that reports print beside the measured TTFT, and prefers the
simplest of those that the model cannot tell apart.
"""

from harness.advice.basis import Basis, from_run
from harness.advice.check import Check, check, miss, told
from harness.advice.curve import Curve
from harness.advice.grid import Grid
from harness.advice.recommend import Advice, Forecast, advise, pays_from
from harness.advice.table import COLUMNS, long_table

__all__ = [
    "COLUMNS",
    "Advice",
    "Basis",
    "Check",
    "Curve",
    "Forecast",
    "Grid",
    "advise",
    "check",
    "from_run",
    "long_table",
    "miss",
    "pays_from",
    "told",
]
