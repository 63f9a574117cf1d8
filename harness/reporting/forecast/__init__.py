"""Which arm the recurrence (harness.core.recurrence) recommends for a store and a model, before anything is measured.

It searches a grid of arms by the same predictions that reports print beside the measured TTFT, and prefers the
simplest of those whose times the recurrence cannot separate.
"""

from harness.reporting.forecast.basis import Basis, from_run
from harness.reporting.forecast.check import Check, check, miss, smallest_lead
from harness.reporting.forecast.curve import Curve
from harness.reporting.forecast.grid import Grid
from harness.reporting.forecast.recommend import Advice, Forecast, advise, pays_from
from harness.reporting.forecast.shortlist import shortlist
from harness.reporting.forecast.table import COLUMNS, long_table

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
    "shortlist",
    "smallest_lead",
]
