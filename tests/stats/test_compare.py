"""Comparisons over made-up frames with a known truth: ratio, interval, warnings, refusals."""

import numpy as np
import pandas as pd
import pytest

from harness.core.errors import ResultsError, UsageError
from harness.stats import compare, run_table, summary
from harness.testing.frames import make_frame


def test_a_known_ratio_is_found_metric_by_metric() -> None:
    frame = make_frame({"a": 1.0, "b": 1.1}, pairs=10)
    for found in compare(frame, "a", "b"):
        assert found.low < 1.1 < found.high
        assert found.low < found.ratio < found.high
        assert found.significant and found.mark == ""
        assert found.n_pairs == 10 and found.n_requests == 240
        assert found.p_value == 2 / 2**10


def test_no_change_is_marked() -> None:
    (found,) = compare(make_frame({"a": 1.0, "b": 1.0}), "a", "b", ["p50"])
    assert found.mark == "~" and found.low < 1 < found.high


def test_swapping_the_arms_inverts_the_ratio() -> None:
    frame = make_frame({"a": 1.0, "b": 1.3})
    (there,), (back,) = compare(frame, "a", "b", ["p90"]), compare(frame, "b", "a", ["p90"])
    assert (back.ratio, back.low, back.high) == pytest.approx((1 / there.ratio, 1 / there.high, 1 / there.low))
    assert back.p_value == there.p_value


def test_coverage_over_whole_frames() -> None:
    hits = [
        (found := compare(make_frame({"a": 1, "b": 1.05}, seed=seed, drift=0.04), "a", "b", ["p50"])[0]).low <= 1.05 <= found.high
        for seed in range(50)
    ]
    assert np.mean(hits) >= 0.88


def test_quantiles_of_a_short_run_carry_a_warning() -> None:
    found = {item.metric: " ".join(map(str, item.warnings)) for item in compare(make_frame({"a": 1, "b": 1}), "a", "b")}
    assert "p99 needs at least 500 requests per run; the shortest has 12" in found["p99"]
    assert "extreme of the run" in found["p99"]
    assert "extreme" not in found["p90"] and "at least 50" in found["p90"]
    assert found["mean"] == found["p50"] == ""


def test_a_lost_run_takes_its_round_along_and_says_so() -> None:
    frame = make_frame({"a": 1, "b": 1})
    (found,) = compare(frame[frame["run"] != 5], "a", "b", ["p50"])
    assert found.n_pairs == 7
    assert any("1 of 8 rounds without a run of one arm, excluded: 2" in text for text in map(str, found.warnings))


def test_a_lost_slow_request_does_not_make_its_arm_fast() -> None:
    frame = make_frame({"a": 1, "b": 1}, run_noise=0, request_noise=0)
    slowest = frame["prompt"].iloc[int(frame["ttft_s"].argmax())]
    cut = frame[~((frame["arm"] == "b") & (frame["prompt"] == slowest))]
    (found,) = compare(cut, "a", "b", ["mean"])
    assert found.ratio == pytest.approx(1)
    assert any("8 requests excluded" in text for text in map(str, found.warnings))


def test_an_outlying_pair_is_named_and_kept() -> None:
    frame = make_frame({"a": 1, "b": 1}, pairs=12)
    frame.loc[frame["run"] == 9, "ttft_s"] *= 1.5
    (found,) = compare(frame, "a", "b", ["p50"])
    assert found.n_pairs == 12
    assert any("pair 4 stands out" in text and "kept" in text for text in map(str, found.warnings))


def test_a_ratio_that_drifts_is_named() -> None:
    frame = make_frame({"a": 1, "b": 1}, pairs=12)
    frame.loc[frame["arm"] == "b", "ttft_s"] *= 1 + 0.03 * frame.loc[frame["arm"] == "b", "round"].astype(float)
    (found,) = compare(frame, "a", "b", ["p50"])
    assert any("drifts over the pairs by about +" in text for text in map(str, found.warnings))


def test_a_fixed_order_is_named() -> None:
    frame = make_frame({"a": 1, "b": 1})
    frame["run"] = frame["run"].astype(int) + np.where(frame["arm"] == "b", 1000, 0)
    (found,) = compare(frame, "a", "b", ["p50"])
    assert any("a ran first in every pair" in text for text in map(str, found.warnings))


@pytest.mark.parametrize(("pairs", "text"), [(1, "1 pair of runs says nothing"), (4, "from 6 pairs on it does not")])
def test_few_pairs_are_named(pairs: int, text: str) -> None:
    (found,) = compare(make_frame({"a": 1, "b": 1}, pairs=pairs), "a", "b", ["p50"])
    assert any(text in warning for warning in map(str, found.warnings))
    assert not found.significant
    if pairs == 1:
        assert (found.low, found.high) == (0, np.inf)


def test_unknown_names_are_refused() -> None:
    frame = make_frame({"alpha": 1, "beta": 1})
    with pytest.raises(UsageError, match=r"unknown arm 'bet' \(did you mean 'beta'\?\); known: alpha, beta"):
        compare(frame, "alpha", "bet")
    with pytest.raises(UsageError, match="named as both arms"):
        compare(frame, "alpha", "alpha")
    with pytest.raises(UsageError, match="unknown metric 'p5x'"):
        compare(frame, "alpha", "beta", ["p5x"])
    with pytest.raises(UsageError, match=r"unknown column 'ttft'.*did you mean 'ttft_s'"):
        compare(frame, "alpha", "beta", column="ttft")
    with pytest.raises(UsageError, match=r"alpha is 1\.5"):
        compare(frame, "alpha", "beta", alpha=1.5)


@pytest.mark.parametrize("value", [float("nan"), -0.1, float("inf")])
def test_times_that_are_none_are_refused(value: float) -> None:
    frame = make_frame({"a": 1, "b": 1})
    frame.loc[17, "ttft_s"] = value
    with pytest.raises(ResultsError, match=r"run 1, prompt p5 has ttft_s = .* \(1 such rows\)"):
        compare(frame, "a", "b")


def test_zero_has_no_ratio() -> None:
    frame = make_frame({"a": 1, "b": 1})
    frame.loc[frame["run"] == 3, "ttft_s"] = 0.0
    with pytest.raises(ResultsError, match="is 0 in run 3 of 'a'"):
        compare(frame, "a", "b", ["p50"])


def test_nothing_in_common_is_refused() -> None:
    frame = make_frame({"a": 1, "b": 1})
    with pytest.raises(ResultsError, match="no round has a run of both"):
        compare(frame[(frame["arm"] == "a") == (frame["round"] < 4)], "a", "b")
    with pytest.raises(ResultsError, match="no requests to compare"):
        run_table(frame[:0], ["p50"])
    frame["round"] = pd.NA
    with pytest.raises(ResultsError, match="192 requests have no 'round'"):
        run_table(frame, ["p50"])


def test_the_run_table_is_in_time_order() -> None:
    table = run_table(make_frame({"a": 1, "b": 2}, pairs=3)[::-1], ["mean", "p50"])
    assert list(table["run"]) == list(range(6))
    assert list(table["arm"]) == ["a", "b", "b", "a", "a", "b"]
    assert list(table["requests"]) == [12] * 6


def test_summary_has_one_row_an_arm() -> None:
    table = summary(make_frame({"slow": 2.0, "fast": 1.0}))
    assert list(table["arm"]) == ["slow", "fast"]
    assert list(table["runs"]) == [8, 8] and list(table["requests"]) == [96, 96]
    for metric in ("mean", "p50", "p90", "p95", "p99"):
        assert (table[f"{metric}_low_s"] < table[f"{metric}_s"]).all()
        assert (table[f"{metric}_s"] < table[f"{metric}_high_s"]).all()
    assert table["p50_s"][0] / table["p50_s"][1] == pytest.approx(2, rel=0.05)
    assert (table["p50_s"] < table["p99_s"]).all()


def test_summary_takes_columns_that_are_zero() -> None:
    frame = make_frame({"floor": 1.0, "b": 1.0})
    frame["stall_s"] = np.where(frame["arm"] == "floor", 0.0, frame["ttft_s"] / 10)
    table = summary(frame, ["mean"], column="stall_s")
    assert table["mean_s"][0] == 0
    assert table["mean_s"][1] == pytest.approx(0.025, rel=0.3)


def test_summary_names_what_is_odd() -> None:
    frame = make_frame({"a": 1, "b": 1}, pairs=12, drift=0.5)
    frame.loc[frame["run"] == 9, "ttft_s"] *= 9
    table = summary(frame, ["p50"])
    assert "drifted by about +" in " ".join(map(str, table["warnings"][0]))
    assert "run 9 of 'b' stands out" in " ".join(map(str, table["warnings"][1]))
    assert "1 run says nothing" in str(summary(make_frame({"a": 1}, pairs=1), ["p50"])["warnings"][0][0])
