"""Histories taken apart: which rows make a series, and in which order."""

import pytest
from histories import A, B, frame, rows

from harness.core.errors import UsageError
from harness.gate.history import series_of


def test_one_series_an_arm_pair_and_metric_in_time_order() -> None:
    late, early = rows([0.9, 0.91], start=10), rows([0.8, 0.81])
    found = series_of(frame([*late, *rows([1.0], "p95"), *early, *rows([0.7], arm="other")]))
    assert [(one.arm, one.base, one.metric) for one in found] == [(A, B, "p50"), (A, B, "p95"), ("other", B, "p50")]
    assert found[0].rows["ratio"].tolist() == [0.8, 0.81, 0.9, 0.91]
    assert found[0].times.is_monotonic_increasing


def test_times_of_other_zones_are_put_in_order() -> None:
    first, second = rows([0.8])[0], rows([0.9])[0]
    first["time"], second["time"] = "2026-01-01T12:00:00+02:00", "2026-01-01T11:00:00Z"
    (series,) = series_of(frame([second, first]))
    assert series.rows["ratio"].tolist() == [0.8, 0.9]


def test_a_run_that_was_judged_again_counts_once_by_its_last_verdict() -> None:
    (series,) = series_of(frame([*rows([0.8, 0.9]), *rows([0.85])]))
    assert series.rows["ratio"].tolist() == [0.85, 0.9]


def test_refused_verdicts_are_counted_and_left_out() -> None:
    (series,) = series_of(frame([*rows([0.8, 0.9]), *rows([2.0], outcome="REFUSED", start=5)]))
    assert (series.rows["ratio"].tolist(), series.refused) == ([0.8, 0.9], 1)


def test_metrics_and_arms_can_be_chosen() -> None:
    history = frame([*rows([0.8]), *rows([0.9], "p95"), *rows([0.7], arm="other")])
    assert [(one.arm, one.metric) for one in series_of(history, ["p95"])] == [(A, "p95")]
    assert [(one.arm, one.metric) for one in series_of(history, ["p50"], ["other"])] == [("other", "p50")]


def test_what_is_not_there() -> None:
    history = frame(rows([0.8]))
    with pytest.raises(UsageError, match=r"unknown metric in the history 'p59' \(did you mean 'p50'\?\); known: p50"):
        series_of(history, ["p59"])
    with pytest.raises(UsageError, match="unknown arm in the history 'nobody'"):
        series_of(history, [], ["nobody"])
    for empty in (frame([]), frame(rows([0.8], outcome="REFUSED"))):
        with pytest.raises(UsageError, match="holds no verdict that could be shown"):
            series_of(empty)
