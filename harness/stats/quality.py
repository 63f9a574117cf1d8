"""Warnings about a series of runs: drift, outliers, neighbours that are alike. They flag; nothing is dropped."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import kendalltau, theilslopes

from harness.core.findings import Finding, Kind, found
from harness.stats.runs import run_table

OUTLYING = 5.0
"""Robust standard deviations from the median. At the usual 3.5, 13 of 100 clean series of 8 are flagged; at 5, 4 (simulated)."""
DRIFT_ALPHA = 0.01
"""Tables show many series, and a warning that cries wolf is not read: strict on purpose."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A trend of log seconds, or log ratios, over the runs. ``total`` is its size from first to last run, in logs."""

    total: float
    p_value: float
    n: int

    @property
    def significant(self) -> bool:
        """Whether the trend is beyond chance, at 1%."""
        return self.p_value < DRIFT_ALPHA


def drift(values: npt.ArrayLike) -> Drift:
    """Mann-Kendall test and Theil-Sen slope of ``values``, shape (n,), in time order.

    Both are rank methods, which outliers hardly affect. Fewer than 5 values show nothing (p 1).
    """
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 5 or np.ptp(series) == 0:
        return Drift(0.0, 1.0, len(series))
    times = np.arange(len(series))
    slope = float(theilslopes(series, times).slope) if len(series) <= 2000 else float(np.polyfit(times, series, 1)[0])
    return Drift(slope * (len(series) - 1), float(kendalltau(times, series).pvalue), len(series))


def outliers(values: npt.ArrayLike) -> list[int]:
    """Places of the values more than OUTLYING robust standard deviations (MAD / 0.6745) from the median.

    Fewer than 5 values show nothing. If over half the values are equal, any other would be infinitely
    far away; the mean absolute deviation then takes the MAD's place (Iglewicz and Hoaglin, 1993).
    """
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 5:
        return []
    away = np.abs(series - np.median(series))
    scale = np.median(away) / 0.6745 or np.mean(away) * 1.2533
    return [int(place) for place in np.flatnonzero(away > OUTLYING * scale)] if scale > 0 else []


def outlier_runs(frame: pd.DataFrame, metric: str = "p50", column: str = "ttft_s") -> dict[int, Finding]:
    """Runs whose ``metric`` stands out from their own arm's, with a finding for each."""
    table = run_table(frame, [metric], column)
    odd: dict[int, Finding] = {}
    for arm, side in table.groupby("arm", sort=False):
        values = side[metric].to_numpy(dtype=np.float64)
        for place in outliers(np.log(np.maximum(values, 1e-12))):
            run = int(side["run"].iloc[place])
            numbers = {"value": float(values[place]), "median": float(np.median(values))}
            odd[run] = found(Kind.ODD_RUN, str(arm), run=run, metric=metric, **numbers)
    return dict(sorted(odd.items()))


def neighbours_alike(values: npt.ArrayLike) -> bool:
    """Whether neighbours of a series of 12 or more resemble each other beyond chance (lag-1 correlation, about 1%)."""
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 12 or np.ptp(series) == 0:
        return False
    centred = np.argsort(np.argsort(series)) - (len(series) - 1) / 2  # ranks: one outlier must not decide
    return bool(centred[:-1] @ centred[1:] / (centred @ centred) > 2.33 / np.sqrt(len(series)))
