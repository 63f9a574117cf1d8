"""What to be wary of in a series of runs: drift, outliers, a start that is not steady. They flag; nothing is dropped."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import kendalltau, theilslopes

from harness.core.errors import UsageError
from harness.stats.quantiles import Floats
from harness.stats.runs import run_table

OUTLYING = 5.0
"""Robust standard deviations from the median. At the usual 3.5, 13 of 100 clean series of 8 are flagged; at 5, 4 (simulated)."""
CLEARLY = 3.0
"""Standard deviations of the steady rounds by which unsteady ones must differ on average."""
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

    Both are rank methods, which outliers do not lead astray. Fewer than 5 values show nothing (p 1).
    """
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 5 or np.ptp(series) == 0:
        return Drift(0.0, 1.0, len(series))
    times = np.arange(len(series))
    slope = float(theilslopes(series, times).slope) if len(series) <= 2000 else float(np.polyfit(times, series, 1)[0])
    return Drift(slope * (len(series) - 1), float(kendalltau(times, series).pvalue), len(series))


def outliers(values: npt.ArrayLike) -> list[int]:
    """Places of the values more than OUTLYING robust standard deviations (MAD / 0.6745) from the median.

    Fewer than 5 values show nothing. Where over half the values are equal any other would be infinitely
    far away; the mean absolute deviation then takes the MAD's place (Iglewicz and Hoaglin, 1993).
    """
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 5:
        return []
    away = np.abs(series - np.median(series))
    scale = np.median(away) / 0.6745 or np.mean(away) * 1.2533
    return [int(place) for place in np.flatnonzero(away > OUTLYING * scale)] if scale > 0 else []


def outlier_runs(frame: pd.DataFrame, metric: str = "p50", column: str = "ttft_s") -> dict[int, str]:
    """Runs whose ``metric`` stands out from their own arm's, with a sentence each."""
    table = run_table(frame, [metric], column)
    found: dict[int, str] = {}
    for arm, side in table.groupby("arm", sort=False):
        values = side[metric].to_numpy(dtype=np.float64)
        for place in outliers(np.log(np.maximum(values, 1e-12))):
            run = int(side["run"].iloc[place])
            found[run] = (
                f"run {run} of '{arm}' stands out: its {metric} is {1e3 * values[place]:.1f} ms, "
                f"the arm's median is {1e3 * float(np.median(values)):.1f} ms"
            )
    return dict(sorted(found.items()))


def neighbours_alike(values: npt.ArrayLike) -> bool:
    """Whether neighbours of a series of 12 or more resemble each other beyond chance (lag-1 correlation, about 1%)."""
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 12 or np.ptp(series) == 0:
        return False
    centred = np.argsort(np.argsort(series)) - (len(series) - 1) / 2  # ranks: one outlier must not decide
    return bool(centred[:-1] @ centred[1:] / (centred @ centred) > 2.33 / np.sqrt(len(series)))


@dataclass(frozen=True, slots=True)
class Steady:
    """The rows from the first steady round on, how many rounds came before it, and the sentence that says so."""

    frame: pd.DataFrame
    rounds_left_out: int
    note: str | None


def steady_rounds(frame: pd.DataFrame, skip: int | None = None, metric: str = "p50", column: str = "ttft_s") -> Steady:
    """Leave out rounds at the start in which the machine was not yet steady, for all arms alike.

    ``skip`` names their number; None finds it: the cut that minimises the standard error of the rest (MSER,
    White 1997) over the rounds' mean log seconds, at most half the rounds. The arms' difference plays no
    part in the choice, so the cut favours no arm. Raises UsageError where nothing would be left.
    """
    table = run_table(frame, [metric], column)
    logs = np.log(table[metric].clip(lower=1e-12))
    # Against each arm's own median: which arms a round holds must not look like a change of the machine.
    level = (logs - logs.groupby(table["arm"]).transform("median")).groupby(table["round"]).mean()
    cut = _unsteady(level.to_numpy(dtype=np.float64)) if skip is None else skip
    if not 0 <= cut < len(level):
        raise UsageError(f"{cut} of {len(level)} rounds cannot be skipped; give a number from 0 to {len(level) - 1}")
    if cut == 0:
        return Steady(frame, 0, None)
    why = "not yet steady" if skip is None else "as asked"
    note = f"the first {cut} of {len(level)} rounds are left out of all arms ({why})"
    return Steady(frame[frame["round"] >= level.index[cut]], cut, note)


def _unsteady(series: Floats) -> int:
    """MSER's cut, taken only where what it cuts off lies clearly apart: on pure noise MSER likes to cut as well."""
    cuts = range(len(series) // 2 + 1)
    errors = [float(np.var(series[cut:])) / (len(series) - cut) for cut in cuts]
    cut = int(np.argmin(errors)) if errors else 0
    rest = series[cut:]
    apart = abs(float(np.mean(series[:cut])) - float(np.median(rest))) if cut else 0.0
    return cut if apart > CLEARLY * float(np.std(rest)) else 0
