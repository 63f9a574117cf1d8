"""What neighbours went through, recomputed by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.stats.harm import harm


def heard(gaps: dict[str, list[list[float]]], kind: str = "decode") -> pd.DataFrame:
    """``gaps[arm][pair]`` are the gaps of that run."""
    rows = []
    for number, (arm, runs) in enumerate(gaps.items()):
        for pair, values in enumerate(runs):
            rows += [
                {"run": 10 * pair + number, "round": pair, "arm": arm, "kind": kind, "stream": 0, "at_s": 0.1 * i, "value_s": gap}
                for i, gap in enumerate(values)
            ]
    return pd.DataFrame(rows)


def test_each_run_counts_once_and_the_arm_is_their_median() -> None:
    found = harm(heard({"a": [[0.01] * 5, [0.03] * 500, [0.02] * 5]}), "a").iloc[0]
    assert (found["runs"], found["count"]) == (3, 510)
    assert (found["p50_s"], found["max_s"]) == (pytest.approx(0.02), pytest.approx(0.02))


def test_the_ratio_is_to_the_base_of_the_same_round() -> None:
    base = [[0.01], [0.02], [0.04], [0.08], [0.16], [0.32]]
    found = harm(heard({"floor": base, "slow": [[3 * gap for gap in run] for run in base]}), "floor").set_index("arm")
    assert found.loc["slow", "p95_ratio"] == pytest.approx(3)
    assert found.loc["slow", "p95_ratio_low"] == pytest.approx(3)
    assert (found.loc["floor", "p95_ratio"], found.loc["floor", "p95_ratio_high"]) == (1, 1)


def test_the_longest_gap_of_a_run_is_told() -> None:
    gaps = [[0.01] * 50 + [0.5]]
    assert harm(heard({"a": gaps}), "a").iloc[0]["max_s"] == 0.5


def test_noise_gives_an_interval_that_holds_no_change() -> None:
    rng = np.random.default_rng(0)
    runs = {arm: [list(0.02 * np.exp(rng.normal(0, 0.1, 40))) for _ in range(8)] for arm in ("floor", "same")}
    row = harm(heard(runs), "floor").set_index("arm").loc["same"]
    assert row["p95_ratio_low"] < 1 < row["p95_ratio_high"]


def test_without_the_base_there_is_no_ratio() -> None:
    found = harm(heard({"a": [[0.01]]}), "floor").iloc[0]
    assert math.isnan(found["p95_ratio"]) and found["p50_s"] == pytest.approx(0.01)


def test_probes_and_decodes_are_kept_apart() -> None:
    both = pd.concat([heard({"a": [[0.01]]}), heard({"a": [[0.2]]}, kind="probe")])
    assert harm(both, "a").set_index("kind")["p50_s"].to_dict() == {"decode": pytest.approx(0.01), "probe": pytest.approx(0.2)}


def test_nothing_heard_is_an_empty_table() -> None:
    empty = pd.DataFrame(columns=["run", "round", "arm", "kind", "stream", "at_s", "value_s"])
    assert len(harm(empty, "a")) == 0
