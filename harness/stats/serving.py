"""An arm's effect on the service as a whole: rates, gaps between tokens, and goodput."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.core.errors import UsageError
from harness.stats.quantiles import harrell_davis

SLO_COLUMNS: Mapping[str, str] = {"ttft": "ttft_s", "tpot": "tpot_s", "itl": "itl_max_s", "e2e": "e2e_s"}
"""What an objective may bound, and the column of requests.csv that it bounds."""

_UNITS = {"ms": 1e-3, "s": 1.0}


def parse_slo(text: str) -> dict[str, float]:
    """``ttft:300ms,tpot:60ms`` as seconds by name; empty text gives none. Raises UsageError for anything else."""
    objectives: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\w+):(\d+(?:\.\d+)?)(ms|s)", part.strip())
        if match is None or match[1] not in SLO_COLUMNS or float(match[2]) == 0:
            known = ", ".join(SLO_COLUMNS)
            raise UsageError(f"'{part}' is no objective; write one of {known} and a time above 0, such as ttft:300ms or e2e:2s")
        if match[1] in objectives:
            raise UsageError(f"the objective of {match[1]} is listed twice in '{text}'; give one")
        objectives[match[1]] = float(match[2]) * _UNITS[match[3]]
    return objectives


def met(rows: pd.DataFrame, objectives: Mapping[str, float]) -> pd.Series:
    """Whether each request met every objective. A time that does not apply (one token has no gaps) is met."""
    good = pd.Series(True, index=rows.index)
    for name, bound in objectives.items():
        values = rows[SLO_COLUMNS[name]]
        good &= (values <= bound) | values.isna()
    return good


def duration_s(rows: pd.DataFrame) -> float:
    """Seconds from the first request's sending to the last one's last token, of one run."""
    return float((rows["sent_s"] + rows["e2e_s"]).max() - rows["sent_s"].min())


def serving(rows: pd.DataFrame, objectives: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row per arm: medians over its runs. ``rows`` are counted requests.

    Columns: ``arm``, ``runs``, ``requests_per_s`` and ``output_tokens_per_s`` (of finished requests), then
    ``<what>_<p50|p95>_s`` of ``e2e``, ``queue``, ``tpot`` and ``itl_max``, ``lag_p95_s``, and with objectives
    ``goodput_per_s`` (requests per second that met all) and ``good_share``. NaN if a thing does not apply.
    """
    found = []
    for arm, some in rows.groupby("arm", sort=False):
        runs = pd.DataFrame([_run(run, objectives or {}) for _, run in some.groupby("run")])
        found.append({"arm": arm, "runs": len(runs), **runs.median().to_dict()})
    return pd.DataFrame(found, columns=["arm", "runs", *_columns(bool(objectives))])


def _columns(with_goodput: bool) -> list[str]:
    quantiles = [f"{what}_{q}_s" for what in ("e2e", "queue", "tpot", "itl_max") for q in ("p50", "p95")]
    goodput = ["goodput_per_s", "good_share"] if with_goodput else []
    return ["requests_per_s", "output_tokens_per_s", *quantiles, "lag_p95_s", *goodput]


def _run(rows: pd.DataFrame, objectives: Mapping[str, float]) -> dict[str, float]:
    lasted = duration_s(rows)
    found = {"requests_per_s": len(rows) / lasted, "output_tokens_per_s": float(rows["output_tokens"].sum()) / lasted}
    for what in ("e2e", "queue", "tpot", "itl_max"):
        for name, q in (("p50", 0.5), ("p95", 0.95)):
            found[f"{what}_{name}_s"] = _quantile(rows[f"{what}_s"], q)
    found["lag_p95_s"] = _quantile(rows["sent_s"] - rows["planned_s"], 0.95)
    if objectives:
        good = met(rows, objectives)
        found |= {"goodput_per_s": float(good.sum()) / lasted, "good_share": float(good.mean())}
    return found


def _quantile(values: pd.Series, q: float) -> float:
    known: Sequence[float] = values.dropna().tolist()
    return float(harrell_davis(np.asarray(known), q)) if known else float("nan")
