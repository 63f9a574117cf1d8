"""Flags on series of runs: found when there, seldom when not."""

import numpy as np
import pytest

from harness.stats import drift, outlier_runs, outliers
from harness.stats.quality import neighbours_alike
from harness.testing.frames import make_frame


def test_a_trend_is_found_and_sized() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 20)
    found = drift(noise + np.linspace(0, 0.2, 20))
    assert found.significant and found.total == pytest.approx(0.2, abs=0.03)
    assert not drift(noise).significant
    assert drift([1.0, 2.0, 3.0]).p_value == 1
    assert drift([1.0] * 9).p_value == 1


def test_an_outlier_does_not_make_a_trend() -> None:
    series = np.random.default_rng(0).normal(0, 0.01, 20)
    series[-1] = 10
    assert not drift(series).significant


def test_false_alarms_are_rare() -> None:
    series = np.random.default_rng(1).normal(size=(400, 16))
    assert np.mean([drift(row).significant for row in series]) <= 0.02
    assert np.mean([bool(outliers(row)) for row in series]) <= 0.05
    assert np.mean([neighbours_alike(row) for row in series]) <= 0.03


def test_outliers_are_placed() -> None:
    assert outliers([1.0, 1.1, 0.9, 1.05, 5.0, 0.95]) == [4]
    assert outliers([1.0] * 9 + [2.0]) == [9]  # the MAD is 0
    assert outliers([1.0] * 9) == []
    assert outliers([1.0, 1.0, 9.0]) == []


def test_outlier_runs_carry_a_sentence() -> None:
    frame = make_frame({"a": 1, "b": 3}, pairs=8)
    frame.loc[frame["run"] == 6, "ttft_s"] *= 2
    assert list(outlier_runs(frame)) == [6]
    assert str(outlier_runs(frame)[6]).startswith("run 6 of 'b' stands out: its p50 is ")


def test_neighbours_that_follow_each_other() -> None:
    generator = np.random.default_rng(2)
    assert neighbours_alike(np.cumsum(generator.normal(size=40)))
    assert not neighbours_alike([1.0] * 30)
