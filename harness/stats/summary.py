"""One row per arm: what was measured, in seconds, with an interval for every number."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.core.findings import Finding, Kind, found
from harness.stats.compare import check_alpha, few_requests
from harness.stats.location import interval
from harness.stats.quality import drift, outlier_runs
from harness.stats.quantiles import METRICS
from harness.stats.runs import run_table


def summary(frame: pd.DataFrame, metrics: Sequence[str] = METRICS, alpha: float = 0.05, column: str = "ttft_s") -> pd.DataFrame:
    """A table with one row per arm, in the order in which the arms first ran.

    Columns: arm, runs, requests, for each metric ``p50_s``, ``p50_low_s``, ``p50_high_s`` (the
    Hodges-Lehmann centre of the runs' values and its interval of level 1 - alpha; infinite bounds if
    one run says nothing), and warnings (a list of findings). The intervals hold for
    one arm by itself; differences between arms are ``compare``'s, whose pairs cancel the machine's drift.
    """
    check_alpha(alpha)
    table = run_table(frame, metrics, column)
    odd = outlier_runs(frame, metrics[0] if "p50" not in metrics else "p50", column)
    rows: list[dict[str, object]] = []
    for arm in dict.fromkeys(table["arm"]):
        side = table[table["arm"] == arm]
        row: dict[str, object] = {"arm": arm, "runs": len(side), "requests": int(side["requests"].sum())}
        for metric in metrics:
            estimate = interval(side[metric].to_numpy(dtype=np.float64), alpha)
            row |= {f"{metric}_s": estimate.value, f"{metric}_low_s": max(estimate.low, 0.0), f"{metric}_high_s": estimate.high}
        row["warnings"] = _doubts(side, metrics, odd)
        rows.append(row)
    return pd.DataFrame(rows)


def _doubts(side: pd.DataFrame, metrics: Sequence[str], odd: dict[int, Finding]) -> list[Finding]:
    smallest = int(side["requests"].min())
    doubts = [few for metric in metrics for few in few_requests(metric, smallest)]
    if len(side) == 1:
        doubts.append(found(Kind.ONE_RUN))
    doubts += [odd[run] for run in side["run"] if run in odd]
    values = side[metrics[0]].to_numpy(dtype=np.float64)
    if (values > 0).all():
        trend = drift(np.log(values))
        if trend.significant:
            change = 100 * float(np.expm1(trend.total))
            doubts.append(found(Kind.ARM_DRIFTS, metric=metrics[0], percent=change, p=trend.p_value))
    return doubts
