"""Where the lead changes, on made-up leads whose crossing is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reporting.sweep.crossing import Crossing, crossing
from harness.stats import interval


def straight(at: list[float], leads: list[float], half: float = 0.1) -> Crossing:
    return crossing(at, leads, [lead - half for lead in leads], [lead + half for lead in leads])


def test_a_straight_line_crosses_where_it_does_and_the_values_beside_it_show_it() -> None:
    """lead = 0.5 - 0.2 x, +- 0.05: zero at 2.5."""
    found = straight([1, 2, 3], [0.3, 0.1, -0.1], 0.05)
    assert (found.kind, found.open) == ("one", ())
    assert found.places == pytest.approx((2.5,))
    assert found.between == ((2, 3),)
    assert (found.before, found.after) == (1, -1)


def test_values_that_do_not_show_the_lead_do_not_bound_the_place() -> None:
    found = straight([1, 2, 3, 4], [0.3, 0.05, -0.05, -0.3])
    assert found.places == pytest.approx((2.5,))
    assert (found.between, found.open) == (((1, 4),), (2, 3))


def test_what_values_seem_to_say_between_two_that_show_it_is_noise() -> None:
    found = straight([1, 2, 4, 8, 16], [-0.5, -0.02, 0.02, -0.01, 0.5])
    assert (found.kind, found.between, found.open) == ("one", ((1, 16),), (2, 4, 8))
    assert 2 < found.places[0] < 16
    found = straight([0, 1, 2, 3], [-0.5, 0.5, -0.01, 0.02])
    assert (found.kind, found.between, found.open) == ("one", ((0, 1),), (2, 3))
    found = straight([1, 2, 3], [-0.5, 0.02, -0.5])
    assert (found.kind, found.between, found.open, found.before) == ("none", (), (2,), -1)


def test_a_value_that_shows_nothing_beyond_them_is_open() -> None:
    found = straight([1, 2, 3], [0.0, -0.5, 0.5])
    assert (found.kind, found.between, found.open, found.before, found.after) == ("one", ((2, 3),), (1,), -1, 1)


def test_a_side_on_which_no_value_shows_the_lead_is_open() -> None:
    found = straight([1, 2, 3], [-0.5, -0.3, 0.05])
    assert (found.kind, found.between, found.open) == ("seems", ((2, None),), (3,))
    assert (found.before, found.after) == (-1, 1)
    found = crossing([1, 2], [-0.1, 0.1], [-math.inf] * 2, [math.inf] * 2)
    assert (found.kind, found.between, found.open) == ("seems", ((None, None),), (1, 2))


def test_where_it_is_asked_for_an_axis_over_more_than_a_factor_of_four_is_taken_by_its_logarithm() -> None:
    found = crossing([1, 16], [1.0, -1.0], [0.5, -1.5], [1.5, -0.5], by_log=True)
    assert found.places == pytest.approx((4.0,))
    assert found.between == ((1, 16),)
    assert crossing([1, 3], [1.0, -1.0], [0.5, -1.5], [1.5, -0.5], by_log=True).places == pytest.approx((2.0,))


@pytest.mark.parametrize("at", [[3.0, 49.0], [0.1, 5.0], [7.0, 1e6]])
@pytest.mark.parametrize("leads", [[-1.0, 5e-324], [5e-324, -1.0], [-1e-300, 1.0]])
def test_a_place_at_the_very_value_stays_between_the_two(at: list[float], leads: list[float]) -> None:
    found = crossing(at, leads, leads, leads, by_log=True)
    assert found.kind == "one"
    assert at[0] <= found.places[0] <= at[1]


def test_a_value_of_zero_keeps_the_axis_as_it_is() -> None:
    assert crossing([0, 8], [1.0, -1.0], [0.5, -1.5], [1.5, -0.5], by_log=True).places == pytest.approx((4.0,))


@pytest.mark.parametrize(("leads", "sign"), [([-0.5, -0.4, -0.6], -1), ([0.5, 0.4, 0.6], 1)])
def test_outside_the_grid(leads: list[float], sign: int) -> None:
    found = straight([1, 2, 3], leads)
    assert (found.kind, found.places, found.between, found.open) == ("none", (), (), ())
    assert (found.before, found.after) == (sign, sign)


def test_where_the_lead_is_not_shown_a_crossing_may_yet_lie() -> None:
    found = straight([1, 2, 3], [-0.5, -0.3, -0.05])
    assert (found.kind, found.open, found.before) == ("none", (3,), -1)


def test_more_than_one_change_that_is_shown_is_told_as_such() -> None:
    found = straight([0, 1, 2, 3], [1.0, -1.0, 1.0, 1.0])
    assert (found.kind, found.between) == ("several", ((0, 1), (1, 2)))
    assert found.places == pytest.approx((0.5, 1.5))


def test_a_lead_of_exactly_0_on_the_way_is_the_place() -> None:
    assert straight([0, 1, 2], [1.0, 0.0, -1.0]).places == pytest.approx((1.0,))
    assert straight([0, 1, 2], [1.0, 0.0, 1.0]).kind == "none"
    assert straight([0, 1, 4], [1.0, 0.0, -1.0]).places == pytest.approx((1.0,))  # there, not half way between the others
    assert straight([0, 1, 2, 8], [1.0, 0.0, 0.0, -1.0]).places == pytest.approx((1.5,))


def test_a_bound_on_the_other_side_of_the_lead_shows_nothing() -> None:
    """Rounding may put a bound beyond a lead of exactly 0."""
    assert crossing([1, 2], [0.0, 1.0], [0.1, 0.5], [0.2, 1.5]).open == (1,)


@pytest.mark.parametrize(("at", "leads"), [([1.0], [0.1]), ([1.0, 1.0], [0.1, -0.1]), ([1.0, 2.0], [math.nan, 0.1])])
def test_what_has_no_crossing_is_refused(at: list[float], leads: list[float]) -> None:
    with pytest.raises(ValueError, match="two different values"):
        crossing(at, leads, leads, leads)


LINE = st.lists(
    st.tuples(st.integers(-50, 50), st.floats(-2, 2), st.floats(0, 1), st.floats(0, 1)),
    min_size=2,
    max_size=7,
    unique_by=lambda p: p[0],
)


def of_line(line: list[tuple[int, float, float, float]], more: float = 0.0) -> Crossing:
    at = [float(point[0]) for point in line]
    return crossing(at, [p[1] for p in line], [p[1] - p[2] - more for p in line], [p[1] + p[3] + more for p in line])


@given(LINE)
def test_each_place_lies_between_the_values_that_show_it(line: list[tuple[int, float, float, float]]) -> None:
    found, by_value = of_line(line), {float(point[0]): point[1] for point in line}
    assert len(found.places) == len(found.between)
    assert (found.kind in ("one", "several", "seems")) == bool(found.places)
    for place, (low, high) in zip(found.places, found.between, strict=True):
        assert min(by_value) - 1e-9 <= place <= max(by_value) + 1e-9
        assert low is None or (low not in found.open and low <= place)
        assert high is None or (high not in found.open and high >= place)
        if found.kind == "seems":
            assert low is None or high is None
        elif low is not None and high is not None:
            assert by_value[low] * by_value[high] <= 0
    order = np.random.default_rng(0).permutation(len(line))
    assert of_line([line[i] for i in order]) == found


@given(LINE, st.floats(0, 0.5))
def test_wider_intervals_show_no_more(line: list[tuple[int, float, float, float]], more: float) -> None:
    narrow, wide = of_line(line), of_line(line, more)
    assert set(wide.open) >= set(narrow.open)
    shown = {"none": 0, "seems": 0, "one": 1, "several": 2}
    assert shown[wide.kind] <= shown[narrow.kind]
    if wide.kind == narrow.kind == "one":
        (low, high), (inner_low, inner_high) = ends(wide), ends(narrow)
        assert low <= inner_low and high >= inner_high


def ends(found: Crossing) -> tuple[float, float]:
    """Of the only change that is shown."""
    low, high = found.between[0]
    assert low is not None and high is not None
    return low, high


@pytest.mark.parametrize("bend", [0.0, 5.0])
@pytest.mark.parametrize("slope", [0.08, 0.15])
def test_the_values_around_it_hold_the_true_place(bend: float, slope: float) -> None:
    """1,000 sweeps of 8 pairs a point over a lead that is known, straight or bent: it changes at 3.7. Seeded, so it cannot flip.

    Of those that name two values, the true place lies between them in 95% or more.
    """
    random = np.random.default_rng(5)
    at = [1.0, 2.0, 3.0, 4.0, 5.0]
    inside = named = 0
    for _ in range(1000):
        pairs = [slope * (3.7 - x) * (1 + bend * (x < 3.7)) + random.normal(0, 0.08, 8) for x in at]
        found = [interval(one) for one in pairs]
        place = crossing(at, [one.value for one in found], [one.low for one in found], [one.high for one in found])
        if place.kind == "one":
            low, high = ends(place)
            named, inside = named + 1, inside + (low <= 3.7 <= high)
    assert named > 200
    assert inside >= 0.95 * named
