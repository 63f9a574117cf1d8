"""Absolute limits: the candidate's own level against a time, in the same three states and within the same error rate."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.gate import Outcome, annotations, judge_by_plan, judge_run, judge_runs, junit, markdown, schema
from harness.gate.limits import Level, check_requests, levels, parse_bounds
from harness.results import Measurement
from harness.stats import Plan
from harness.testing.frames import make_frame

META = {"machine": {"cpu": "C"}, "versions": {"vllm": "0.32.0"}, "data": {"fingerprint": "f"}}


def measurement(**more: float) -> Measurement:
    return Measurement(Path("run"), META, make_frame({"a": 1.0, "b": 1.0}, **more), pd.DataFrame())  # type: ignore[arg-type]


def centre(of: Measurement) -> float:
    return levels(of.counted, "b", ["p50"])[0].value_s


def test_margins_and_limits_are_told_apart() -> None:
    specs = ["p50:5%", "p95:800ms", "p99:1.5s", "p50:.5s"]
    assert parse_bounds(specs) == (["p50:5%"], {"p95": 0.8, "p99": 1.5, "p50": 0.5})
    for spec, said in (("x:5ms", "unknown metric 'x'"), ("p95:0s", "the limit of p95 is 0 ms; give a time above 0")):
        with pytest.raises(UsageError, match=said):
            parse_bounds([spec])


@pytest.mark.parametrize(("share", "outcome"), [(1.3, Outcome.PASS), (0.7, Outcome.FAIL), (1.0, Outcome.INCONCLUSIVE)])
def test_three_states_of_a_limit(share: float, outcome: Outcome) -> None:
    run = measurement(seed=3)
    verdict = judge_run(run, "b", "a", {}, limits={"p50": centre(run) * share})
    [limit] = verdict.limits
    assert verdict.outcome is limit.outcome is outcome and verdict.metrics == ()
    assert limit.low_s < limit.value_s < limit.high_s
    assert "the limit of p50" in verdict.sentence and "the limit of p50" in limit.sentence


def test_one_failed_limit_fails_a_gate_whose_ratios_pass() -> None:
    run = measurement(seed=3)
    verdict = judge_run(run, "b", "a", {"p50": 0.5}, limits={"p50": centre(run) * 0.5, "mean": centre(run) * 5})
    assert [one.outcome for one in verdict.judged] == [Outcome.PASS, Outcome.FAIL, Outcome.PASS]
    assert verdict.outcome is Outcome.FAIL and verdict.exit_code == 1
    jsonschema.validate(json.loads(json.dumps(verdict.to_json())), schema())
    assert "p50 below" in junit(verdict) and 'failures="1"' in junit(verdict)
    assert "| limit |" in markdown(verdict) and "the limit of p50 fails" in annotations(verdict)[0]


def test_limits_share_the_error_rate_with_the_ratios() -> None:
    """Of three that could fail, none failing, each lower bound has a third of the rate."""
    run = measurement(seed=3)
    verdict = judge_run(run, "b", "a", {"p50": 0.5}, limits={"p50": 100.0, "mean": 100.0})
    assert [one.level_low for one in verdict.judged] == pytest.approx([0.05 / 3] * 3)
    assert [one.level_high for one in verdict.judged] == [0.05] * 3


@given(st.lists(st.floats(1e-3, 10), min_size=2, max_size=30), st.floats(0.002, 0.1))
def test_the_bounds_lie_around_the_centre(values: list[float], rate: float) -> None:
    level = Level("p50", 100, 100, tuple(float(one) for one in np.log(values)))
    assert level.lower(rate) <= level.value_s * (1 + 1e-9) and level.upper(rate) >= level.value_s * (1 - 1e-9)


def test_a_plan_and_two_measurements_judge_limits_as_well() -> None:
    run = measurement(seed=3, pairs=8)
    wide = {"p50": centre(run) * 2}
    verdict = judge_by_plan(run, "b", "a", {}, Plan((8, 16), 0.05, "pocock"), limits=wide)
    assert verdict.outcome is Outcome.PASS and verdict.limits[0].level_high < 0.05
    early = judge_by_plan(run, "b", "a", {}, Plan((12, 16), 0.05, "pocock"), limits=wide)
    assert early.outcome is Outcome.INCONCLUSIVE and early.limits[0].further_pairs == 4
    assert judge_runs(run, run, {"p50": 0.5}, "a", "b", limits={"p50": centre(run) / 2}).outcome is Outcome.FAIL


def test_a_level_that_drifts_is_said_since_no_other_arm_cancels_it() -> None:
    drifting = judge_run(measurement(seed=3, drift=0.5), "b", "a", {"p50": 0.5}, limits={"p50": 100.0})
    assert any("the arm's p50 drifted by about" in str(one) for one in drifting.all_warnings)
    still = judge_run(measurement(seed=3), "b", "a", {"p50": 0.5}, limits={"p50": 100.0})
    assert not any("drifted" in str(one) for one in still.all_warnings)


def test_a_candidate_on_its_limit_fails_and_passes_no_more_often_than_declared() -> None:
    """1,000 gates of 8 runs each whose truth lies on the limit: 5% either way, and 3 standard errors."""
    generator = np.random.default_rng(0)
    levels_of = [Level("p50", 96, 12, tuple(row)) for row in np.log(0.8) + 0.05 * generator.standard_normal((1000, 8))]
    failed = sum(one.lower(0.05) > 0.8 for one in levels_of) / 1000
    passed = sum(one.upper(0.05) < 0.8 for one in levels_of) / 1000
    assert failed <= 0.07 and passed <= 0.07


def test_a_limit_of_a_tail_needs_its_requests() -> None:
    run = measurement(seed=3, prompts=12)
    verdict = judge_run(run, "b", "a", {}, limits={"p95": 100.0})
    assert verdict.outcome is Outcome.REFUSED and "p95 cannot be gated on" in verdict.sentence
    assert verdict.limits[0].outcome is Outcome.REFUSED
    with pytest.raises(UsageError, match="p95 needs at least 20 requests per run, better 100, and this workload has 12"):
        check_requests(["p50", "p95"], 12)
    assert check_requests(["p50", "p95"], 20) == ["p95 is unsure below 100 requests per run, and this workload has 20"]
    assert check_requests(["p50", "p95", "mean"], 100) == []
