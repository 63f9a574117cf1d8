"""Margins, the three states, Holm, further pairs, calibration and plan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.findings import Kind, found
from harness.gate import Outcome, judge, parse_margins
from harness.gate.calibration import Calibration, NoiseFloor
from harness.gate.judge import further_pairs
from harness.stats import Comparison, Plan, compare
from harness.testing.frames import make_frame


def of(logs: list[float], metric: str = "p50", smallest: int = 200) -> Comparison:
    return Comparison(
        metric, "a", "b", len(logs), 100, float(np.exp(np.median(logs))), 0, 9, 0.05, 1, tuple(logs), (), (), smallest
    )


def spread(centre: float, width: float = 0.02, n: int = 8) -> list[float]:
    return list(np.log(1 + centre) + np.linspace(-width, width, n))


def test_margins_are_read() -> None:
    assert parse_margins(["p50:5%", "p95:10 %", "mean:2.5%"]) == {"p50": 0.05, "p95": 0.10, "mean": 0.025}


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ([], "no margin is given"),
        (["p50"], "'p50' is not a margin; write a metric and a percentage, as p50:5%"),
        (["p50:5"], "is not a margin"),
        (["p50:%"], "is not a margin"),
        (["p50:nan%"], "is not a margin"),
        (["p50:0%"], "margin of p50 is 0%; it must be above 0%"),
        (["p50:-3%"], "margin of p50 is -3%"),
        (["p50:300%"], "margin of p50 is 300%; above 100% it tolerates anything"),
        (["p50:5%", "p50:6%"], "has two margins"),
        (["q50:5%"], "unknown metric 'q50'"),
    ],
)
def test_margins_that_cannot_be_meant(specs: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse_margins(specs)


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [(0.0, Outcome.PASS, 0), (-0.3, Outcome.PASS, 0), (0.2, Outcome.FAIL, 1), (0.05, Outcome.INCONCLUSIVE, 3)],
)
def test_three_states(change: float, outcome: Outcome, code: int) -> None:
    verdict = judge([of(spread(change))], {"p50": 0.05})
    assert verdict.outcome is outcome and verdict.exit_code == code
    assert verdict.sentence.startswith(f"{outcome}: b against a: p50 ")


@settings(deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=20), st.floats(0.01, 0.5))
def test_the_state_follows_from_the_bounds_shown(logs: list[float], margin: float) -> None:
    (metric,) = judge([of(logs)], {"p50": margin}).metrics
    assert (metric.low > 1 + margin) == (metric.outcome is Outcome.FAIL)
    assert (metric.high < 1 + margin) == (metric.outcome is Outcome.PASS)
    assert (metric.further_pairs is None) or metric.outcome is Outcome.INCONCLUSIVE


@settings(deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=6, max_size=12), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_a_wider_margin_is_never_stricter(logs: list[float], one: float, other: float) -> None:
    order = [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS]
    narrow, wide = (judge([of(logs)], {"p50": margin}).outcome for margin in sorted((one, other)))
    assert order.index(narrow) <= order.index(wide)


def test_one_failing_metric_fails_the_whole_and_all_must_pass() -> None:
    good, bad, unclear = of(spread(0), "p50"), of(spread(0.3), "p90"), of(spread(0.05), "mean")
    assert judge([good, bad, unclear], {"p50": 0.05, "p90": 0.05, "mean": 0.05}).outcome is Outcome.FAIL
    assert judge([good, unclear], {"p50": 0.05, "mean": 0.05}).outcome is Outcome.INCONCLUSIVE
    assert judge([good, bad], {"p50": 0.05}).outcome is Outcome.PASS  # p90 has no margin


def test_holm_corrects_the_lower_bounds_only() -> None:
    margins = {"mean": 0.05, "p50": 0.05, "p90": 0.05}
    verdict = judge([of(spread(0.02, n=12), metric) for metric in margins], margins)
    assert [metric.level_low for metric in verdict.metrics] == pytest.approx([0.05 / 3] * 3)
    assert [metric.level_high for metric in verdict.metrics] == pytest.approx([0.05] * 3)
    one_fails = judge(
        [of(spread(change, n=12), metric) for metric, change in zip(margins, (0.5, 0.02, 0.02), strict=True)], margins
    )
    assert [metric.level_low for metric in one_fails.metrics] == pytest.approx([0.05 / 3, 0.025, 0.025])


def test_many_metrics_raise_no_more_false_alarms_than_one() -> None:
    generator = np.random.default_rng(0)
    margins = {f"p{10 * k}": 0.05 for k in range(1, 6)}
    failed = 0
    for _ in range(400):
        # Every metric lies exactly on its margin: the worst case for a false FAIL.
        found = [of(list(np.log(1.05) + 0.02 * generator.standard_normal(10)), metric) for metric in margins]
        failed += judge(found, margins).outcome is Outcome.FAIL
    assert failed / 400 <= 0.06


def test_further_pairs_scale_the_interval() -> None:
    # half the interval is twice the gap: four times the pairs
    assert further_pairs(8, 1.0, np.exp(-0.2), np.exp(0.2), np.expm1(0.1), 0.025) == 24
    assert further_pairs(2, 1.0, np.exp(-0.11), np.exp(0.11), np.expm1(0.1), 0.025) == 4  # never below 6 pairs
    assert further_pairs(1, 1.0, 0.0, np.inf, 0.05, 0.025) == 5
    assert further_pairs(8, 1.0499, 1.0, 1.1, 0.05, 0.025) is None


def test_further_pairs_are_about_right() -> None:
    generator = np.random.default_rng(1)
    settled = tried = 0
    for _ in range(300):
        logs = list(0.025 + 0.03 * generator.standard_normal(8))
        verdict = judge([of(logs)], {"p50": 0.05})
        if verdict.outcome is Outcome.INCONCLUSIVE and verdict.further_pairs is not None and verdict.further_pairs < 200:
            more = logs + list(0.025 + 0.03 * generator.standard_normal(2 * verdict.further_pairs))
            settled += judge([of(more)], {"p50": 0.05}).outcome is not Outcome.INCONCLUSIVE
            tried += 1
    assert tried > 50 and settled / tried > 0.6


def test_one_pair_is_inconclusive() -> None:
    verdict = judge(compare(make_frame({"a": 1, "b": 3}, pairs=1), "a", "b", ["p50"]), {"p50": 0.05})
    assert verdict.outcome is Outcome.INCONCLUSIVE and verdict.further_pairs == 4
    assert "at least 4 further pairs" in verdict.sentence
    assert any("1 pair of runs says nothing" in text for text in map(str, verdict.warnings))


def test_a_quantile_beyond_the_run_is_refused() -> None:
    verdict = judge(compare(make_frame({"a": 1, "b": 1}), "a", "b", ["p99"]), {"p99": 0.05})
    assert verdict.outcome is Outcome.REFUSED and verdict.exit_code == 2
    assert "p99 cannot be gated on: it needs at least 100 requests per run, the shortest has 12" in verdict.sentence


@pytest.mark.parametrize("alpha", [0.0, -0.1, 0.25, float("nan")])
def test_error_rates_that_are_none(alpha: float) -> None:
    with pytest.raises(UsageError, match=r"alpha is .*; give an error rate above 0 and below 0\.25"):
        judge([of(spread(0))], {"p50": 0.05}, alpha)


def test_a_metric_that_was_not_compared() -> None:
    with pytest.raises(UsageError, match="'p90' has a margin but was not compared"):
        judge([of(spread(0))], {"p90": 0.05})


def test_margins_below_the_noise_floor() -> None:
    floors = Calibration((NoiseFloor("p50", 0.02, 0, -0.01, 0.01, {8: 0.03, 30: 0.01}),), 30, 0.05)
    below = judge([of(spread(0))], {"p50": 0.02}, calibration=floors)
    assert below.outcome is Outcome.REFUSED
    assert "the margin of p50, 2.0%, is below what 8 pairs can hold on this machine, 3.0%" in str(below.refusals[0])
    forced = judge([of(spread(0))], {"p50": 0.02}, calibration=floors, force=True)
    assert forced.outcome is not Outcome.REFUSED
    assert any("as forced" in text for text in map(str, forced.warnings))
    assert judge([of(spread(0))], {"p50": 0.04}, calibration=floors).outcome is Outcome.PASS


def test_a_plan_takes_its_share() -> None:
    plan = Plan((8, 16))
    verdict = judge([of(spread(0))], {"p50": 0.05}, plan=plan)
    assert verdict.alpha == 0.05 and verdict.alpha_used == plan.levels()[0] < 0.05
    with pytest.raises(UsageError, match="the plan looks at 8, 16 pairs, not at 9"):
        judge([of(spread(0, n=9))], {"p50": 0.05}, plan=plan)


def test_reasons_against_win_over_everything() -> None:
    verdict = judge([of(spread(0.5))], {"p50": 0.05}, refusals=[found(Kind.RECORDED, text="the hits differ")])
    assert verdict.outcome is Outcome.REFUSED and verdict.sentence == "REFUSED: b against a: the hits differ"
    assert verdict.metrics[0].outcome is Outcome.REFUSED and "is not judged" in verdict.metrics[0].sentence
