"""Share of load hidden: the part of the time that blocking chunkwise adds, which an arm saves."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import bisect

from harness.core.errors import ResultsError
from harness.core.findings import Finding, Kind, found
from harness.stats.compare import check_alpha
from harness.stats.location import interval, lower_bound, pseudomedian, upper_bound
from harness.stats.quantiles import Floats
from harness.stats.runs import require_arms, run_table

FARTHEST = 1e6
"""A bound beyond so many times the load counts as none."""


@dataclass(frozen=True, slots=True)
class Share:
    """(chunkwise - arm) / (chunkwise - floor): 1 hides all, 0 nothing, below 0 is slower than chunkwise.

    ``value``, ``low`` and ``high`` are None if chunkwise and floor do not differ beyond chance; a single bound
    is infinite if the rounds leave it open.
    """

    arm: str
    value: float | None
    low: float | None
    high: float | None
    n_rounds: int
    warnings: tuple[Finding, ...]


def share_hidden(
    frame: pd.DataFrame,
    arm: str,
    chunkwise: str,
    floor: str,
    metric: str = "p50",
    alpha: float = 0.05,
    column: str = "ttft_s",
) -> Share:
    """The share for ``arm``, from the rounds in which all three arms ran.

    Estimate and interval come from inverting the signed-rank test: the share s is not ruled out while
    (chunkwise - arm) - s (chunkwise - floor) may be centred on 0. So a denominator that is itself
    uncertain widens the interval (as Fieller's does for means), which no resampling of the quotient gets
    right with few rounds. Raises UsageError for an arm that isn't there, ResultsError without common rounds.
    """
    check_alpha(alpha)
    needed = list(dict.fromkeys((arm, chunkwise, floor)))
    for name in needed:
        require_arms(frame, name)
    table = run_table(frame[frame["arm"].isin(needed)], [metric], column)
    wide = table.pivot_table(index="round", columns="arm", values=metric, aggfunc="mean").dropna()
    if len(wide) == 0:
        raise ResultsError(f"no round has runs of all of {', '.join(needed)}, so the share of load hidden cannot be computed")
    hidden = (wide[chunkwise] - wide[arm]).to_numpy(dtype=np.float64)
    load = (wide[chunkwise] - wide[floor]).to_numpy(dtype=np.float64)
    if not interval(load, alpha).low > 0:
        reason = found(Kind.NO_LOAD, chunkwise, floor=floor, rounds=len(wide))
        return Share(arm, None, None, None, len(wide), (reason,))
    low, value, high = _quotient(hidden, load, alpha)
    return Share(arm, value, low, high, len(wide), ())


def _quotient(top: Floats, bottom: Floats, alpha: float) -> tuple[float, float, float]:
    """Low, estimate and high of s such that ``top - s * bottom`` is centred on 0; the hull if there are gaps.

    The interval of ``top - s * bottom`` moves down as s grows while the bottom is positive, so each of its three
    numbers crosses zero once; they are found by bisection.
    """

    def zero_of(bound: Callable[[Floats], float]) -> float:
        def at(s: float) -> float:
            return float(bound(top - s * bottom))

        left, right = -1.0, 2.0
        while at(left) < 0 and left > -FARTHEST:
            left *= 4
        while at(right) > 0 and right < FARTHEST:
            right *= 4
        if left <= -FARTHEST or right >= FARTHEST:
            return -np.inf if left <= -FARTHEST else np.inf
        return float(bisect(at, left, right, xtol=1e-9)) if at(left) * at(right) < 0 else (left if at(left) == 0 else right)

    low, high = (zero_of(partial(bound, level=alpha / 2)) for bound in (lower_bound, upper_bound))
    return low, zero_of(pseudomedian), high
