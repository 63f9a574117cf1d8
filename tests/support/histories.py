"""Made-up histories."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from harness.gate.history import COLUMNS

A, B = "layerwise:depth=4", "chunkwise:pool=0"


def rows(
    ratios: Sequence[float], metric: str = "p50", outcome: str = "PASS", start: int = 0, arm: str = A
) -> list[dict[str, object]]:
    """One verdict a day."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        {
            "schema": "1.0",
            "time": (begin + timedelta(days=start + day)).isoformat(timespec="seconds"),
            "run": "ci",
            "commit": f"c{start + day}",
            "arm": arm,
            "base": B,
            "metric": metric,
            "ratio": float(ratio),
            "low": float(ratio) * 0.97,
            "high": float(ratio) * 1.03,
            "margin": 0.05,
            "outcome": outcome,
            "n_pairs": 8,
            "machine": "0123456789ab",
        }
        for day, ratio in enumerate(ratios)
    ]


def frame(records: Sequence[dict[str, object]]) -> pd.DataFrame:
    """As harness.gate.history.read gives them."""
    return pd.DataFrame(records, columns=list(COLUMNS)).astype(dict(COLUMNS))


def noisy(levels: Sequence[tuple[float, int]], noise: float = 0.01, seed: int = 0) -> list[float]:
    """Ratios at each level for so many verdicts."""
    generator = np.random.default_rng(seed)
    return [level * float(np.exp(noise * generator.standard_normal())) for level, count in levels for _ in range(count)]
