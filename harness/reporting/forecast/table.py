"""Every arm at every prefix length, as rows."""

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.reporting.forecast.grid import threads
from harness.reporting.forecast.recommend import Advice

COLUMNS: Mapping[str, str] = {
    "prefix_tokens": "int64",
    "chunks": "int64",
    "arm": "string",  # as --arm takes it
    "engine": "string",
    "threads": "int64",  # besides the one that computes
    "predicted_s": "float64",  # TTFT by the recurrence
    "ratio": "float64",  # to chunkwise:pool=0
    "recommended": "bool",
    "floor_s": "float64",  # TTFT if loading took no time
    "recompute_s": "float64",  # TTFT without any hit; empty if it isn't known
}


def long_table(advices: Sequence[Advice]) -> pd.DataFrame:
    """One row per arm and prefix length, COLUMNS, the fastest first at each length."""
    rows = [
        (
            advice.prefix,
            advice.chunks,
            one.arm.name,
            one.arm.engine,
            threads(one.arm),
            one.ttft_s,
            one.ttft_s / advice.base.ttft_s if advice.base.ttft_s else None,
            one is advice.recommended,
            advice.floor_s,
            advice.recompute_s,
        )
        for advice in advices
        for one in advice.forecasts
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(COLUMNS))
