"""The axis of a ratio."""

import pytest
from matplotlib.figure import Figure

from harness.reporting.figures.ratio_axis import MOST_TICKS, ratio_ticks, scale_ratios


@pytest.mark.parametrize(("low", "high"), [(0.95, 1.05), (0.8, 1.3), (0.3, 1.1), (0.05, 3.0), (0.001, 1000.0), (0.999, 1.001)])
def test_ticks_of_a_ratio_are_few_round_and_hold_1(low: float, high: float) -> None:
    ticks = ratio_ticks(low, high)
    assert 1.0 in ticks and 1 <= len(ticks) <= MOST_TICKS
    assert ticks == sorted(ticks) and all(low <= tick <= high for tick in ticks)


def test_half_and_double_are_as_far_from_1() -> None:
    axes = Figure().subplots()
    scale_ratios(axes.xaxis, [0.5, 1.0, 2.0])
    (low, high), at = axes.get_xlim(), axes.transData.transform
    assert low < 0.5 and high > 2
    places = [float(at((value, 1.0))[0]) for value in (0.5, 1.0, 2.0)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5", "0.7", "1", "1.2", "1.5", "2"]
