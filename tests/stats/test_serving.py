"""Rates and objectives, recomputed by hand."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.stats.serving import SLO_COLUMNS, met, parse_slo, serving


def rows(**columns: list[object]) -> pd.DataFrame:
    count = len(columns["sent_s"])
    base = {
        "arm": ["a"] * count, "run": [0] * count, "planned_s": columns["sent_s"], "queue_s": [0.01] * count,
        "ttft_s": [0.1] * count, "tpot_s": [0.02] * count, "itl_max_s": [0.03] * count, "output_tokens": [4] * count,
    }  # fmt: skip
    return pd.DataFrame({**base, **columns})


def test_rates_are_over_the_time_from_first_sent_to_last_token() -> None:
    found = serving(rows(sent_s=[1.0, 2.0, 3.0], e2e_s=[0.5, 0.5, 2.0])).iloc[0]
    assert found["requests_per_s"] == pytest.approx(3 / 4)
    assert found["output_tokens_per_s"] == pytest.approx(12 / 4)
    assert (found["tpot_p50_s"], found["itl_max_p95_s"], found["queue_p50_s"]) == (
        pytest.approx(0.02),
        pytest.approx(0.03),
        pytest.approx(0.01),
    )
    assert "goodput_per_s" not in found


def test_a_run_is_one_value_and_the_arm_their_median() -> None:
    three = rows(sent_s=[0.0, 0.0, 0.0], e2e_s=[1.0, 2.0, 10.0]).assign(run=[0, 1, 2])
    found = serving(three).iloc[0]
    assert (found["runs"], found["requests_per_s"]) == (3, pytest.approx(1 / 2))


def test_goodput_counts_what_met_every_objective() -> None:
    some = rows(sent_s=[0.0, 0.0, 0.0, 0.0], e2e_s=[2.0] * 4, ttft_s=[0.1, 0.2, 0.4, 0.1], tpot_s=[0.02, 0.02, 0.02, 0.2])
    found = serving(some, parse_slo("ttft:300ms,tpot:60ms")).iloc[0]
    assert found["good_share"] == pytest.approx(0.5)
    assert found["goodput_per_s"] == pytest.approx(2 / 2)


def test_a_single_token_has_no_gap_to_miss_an_objective_with() -> None:
    one = rows(sent_s=[0.0], e2e_s=[1.0], tpot_s=[math.nan], itl_max_s=[math.nan])
    assert met(one, parse_slo("tpot:1ms")).tolist() == [True]
    assert math.isnan(serving(one).iloc[0]["tpot_p50_s"])


def test_lag_is_sent_minus_planned() -> None:
    late = rows(sent_s=[1.0, 2.0], e2e_s=[1.0, 1.0], planned_s=[0.9, 1.9])
    assert serving(late).iloc[0]["lag_p95_s"] == pytest.approx(0.1)


@given(st.dictionaries(st.sampled_from(list(SLO_COLUMNS)), st.integers(1, 100_000), min_size=1))
def test_objectives_come_back(wanted: dict[str, int]) -> None:
    text = ",".join(f"{name}:{ms}ms" for name, ms in wanted.items())
    assert parse_slo(text) == {name: pytest.approx(ms / 1e3) for name, ms in wanted.items()}


@pytest.mark.parametrize("text", ["ttft", "ttft:3", "ttft:0ms", "ttft:-3ms", "speed:3ms", "ttft:3m", "ttft:x", "ttft=3ms"])
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no objective; write one of ttft, tpot, itl, e2e"):
        parse_slo(text)


def test_an_objective_stands_once() -> None:
    with pytest.raises(UsageError, match="the objective of ttft is listed twice"):
        parse_slo("ttft:3ms,ttft:4ms")
    assert parse_slo("") == {}
