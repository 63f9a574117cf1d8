"""What an arm costs its neighbours: the gaps between their tokens, and the TTFT of short probes, beside another arm's."""

import numpy as np
import pandas as pd

from harness.stats.location import interval
from harness.stats.quantiles import harrell_davis

QUANTILES = {"p50": 0.5, "p95": 0.95, "max": 1.0}


def harm(heard: pd.DataFrame, base: str) -> pd.DataFrame:
    """One row per arm and kind. ``heard`` has NEIGHBOUR_COLUMNS of neighbour_log.py.

    Columns: ``arm``, ``kind``, ``runs``, ``count`` (gaps or probes), ``p50_s``, ``p95_s`` and ``max_s`` (medians over
    the runs of each run's), and ``p95_ratio`` with ``p95_ratio_low``, ``p95_ratio_high``: of the runs' p95 to those of
    ``base`` in the same rounds, with its 95% interval by the signed ranks of the log ratios (docs/decisions/0003).
    NaN if ``base`` has no run in a round of the arm's. The p95 of a run with few gaps is unsure; see the count.
    """
    found = []
    for kind, some in heard.groupby("kind", sort=True):
        runs = _runs(some)
        for arm in some["arm"].drop_duplicates():
            own = runs[runs["arm"] == arm]
            row: dict[str, object] = {"arm": arm, "kind": kind, "runs": len(own), "count": int(own["count"].sum())}
            row |= {f"{name}_s": float(own[name].median()) for name in QUANTILES}
            found.append(row | _ratio(own, runs[runs["arm"] == base]))
    quantiles = [f"{name}_s" for name in QUANTILES]
    ratio = ["p95_ratio", "p95_ratio_low", "p95_ratio_high"]
    return pd.DataFrame(found, columns=["arm", "kind", "runs", "count", *quantiles, *ratio])


def _runs(heard: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (pair, run, arm), some in heard.groupby(["round", "run", "arm"]):
        values = some["value_s"].to_numpy(dtype=np.float64)
        quantiles = {name: float(values.max() if q == 1 else harrell_davis(values, q)) for name, q in QUANTILES.items()}
        rows.append({"round": pair, "run": run, "arm": arm, "count": len(values), **quantiles})
    return pd.DataFrame(rows)


def _ratio(own: pd.DataFrame, base: pd.DataFrame) -> dict[str, float]:
    both = own.set_index("round")["p95"].to_frame("own").join(base.set_index("round")["p95"].rename("base"), how="inner")
    if both.empty:
        return dict.fromkeys(("p95_ratio", "p95_ratio_low", "p95_ratio_high"), float("nan"))
    logs = np.log(both["own"].to_numpy()) - np.log(both["base"].to_numpy())
    if not np.any(logs):  # the base itself
        return {"p95_ratio": 1.0, "p95_ratio_low": 1.0, "p95_ratio_high": 1.0}
    found = interval(logs)
    return {
        "p95_ratio": float(np.exp(found.value)),
        "p95_ratio_low": float(np.exp(found.low)),
        "p95_ratio_high": float(np.exp(found.high)),
    }
