"""Where the lead changes, on made-up leads whose crossing is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import interval
from harness.sweep.crossing import Crossing, crossing


def straight(at: list[float], leads: list[float], half: float = 0.1) -> Crossing:
    return crossing(at, leads, [lead - half for lead in leads], [lead + half for lead in leads])


def test_a_straight_line_crosses_where_it_does_and_the_values_beside_it_show_it() -> None:
    """lead = 0.5 - 0.2 x, +- 0.05: zero at 2.5."""
    found = straight([1, 2, 3], [0.3, 0.1, -0.1], 0.05)
    assert found.kind == "one" and found.open == ()
    assert found.places == pytest.approx((2.5,))
    assert (found.low, found.high) == (2, 3)
    assert (found.before, found.after) == (1, -1)


def test_values_that_do_not_show_the_lead_do_not_bound_the_place() -> None:
    found = straight([1, 2, 3, 4], [0.3, 0.05, -0.05, -0.3])
    assert found.places == pytest.approx((2.5,))
    assert (found.low, found.high, found.open) == (1, 4, (2, 3))


def test_a_side_on_which_no_value_shows_the_lead_is_open() -> None:
    found = straight([1, 2, 3], [-0.5, -0.3, 0.05])
    assert (found.kind, found.low, found.high, found.open) == ("one", 2, None, (3,))
    found = crossing([1, 2], [-0.1, 0.1], [-math.inf] * 2, [math.inf] * 2)
    assert (found.kind, found.low, found.high, found.open) == ("one", None, None, (1, 2))


def test_where_it_is_asked_for_an_axis_over_more_than_a_factor_of_four_is_taken_by_its_logarithm() -> None:
    found = crossing([1, 16], [1.0, -1.0], [0.5, -1.5], [1.5, -0.5], by_log=True)
    assert found.places == pytest.approx((4.0,))
    assert (found.low, found.high) == (1, 16)
    assert crossing([1, 3], [1.0, -1.0], [0.5, -1.5], [1.5, -0.5], by_log=True).places == pytest.approx((2.0,))


def test_a_value_of_zero_keeps_the_axis_as_it_is() -> None:
    assert crossing([0, 8], [1.0, -1.0], [0.5, -1.5], [1.5, -0.5], by_log=True).places == pytest.approx((4.0,))


@pytest.mark.parametrize(("leads", "before", "after"), [([-0.5, -0.4, -0.6], -1, -1), ([0.5, 0.4, 0.6], 1, 1)])
def test_outside_the_grid(leads: list[float], before: int, after: int) -> None:
    found = straight([1, 2, 3], leads)
    assert (found.kind, found.places, found.low, found.high, found.open) == ("none", (), None, None, ())
    assert (found.before, found.after) == (before, after)


def test_where_the_lead_is_not_shown_a_crossing_may_yet_lie() -> None:
    found = straight([1, 2, 3], [-0.5, -0.3, -0.05])
    assert (found.kind, found.open) == ("none", (3,))


def test_more_than_one_change_is_told_with_all_places_and_bounded_by_nothing() -> None:
    found = straight([0, 1, 2, 3], [1.0, -1.0, 1.0, 1.0])
    assert found.kind == "several" and found.places == pytest.approx((0.5, 1.5))
    assert (found.low, found.high) == (None, None)


def test_a_lead_of_exactly_0_on_the_way_is_one_crossing() -> None:
    assert straight([0, 1, 2], [1.0, 0.0, -1.0]).places == pytest.approx((1.0,))
    assert straight([0, 1, 2], [1.0, 0.0, 1.0]).kind == "none"
    assert straight([0, 1, 4], [1.0, 0.0, -1.0]).places == pytest.approx((1.0,))  # there, not half way between the others
    assert straight([0, 1, 2, 8], [1.0, 0.0, 0.0, -1.0]).places == pytest.approx((1.5,))


def test_one_value_has_no_crossing() -> None:
    with pytest.raises(ValueError, match="two values"):
        crossing([1], [0.1], [0.0], [0.2])


LINE = st.lists(
    st.tuples(st.integers(-50, 50), st.floats(-2, 2), st.floats(0, 1), st.floats(0, 1)),
    min_size=2,
    max_size=7,
    unique_by=lambda p: p[0],
)


@given(LINE)
def test_the_place_lies_between_values_that_show_it_and_inside_the_grid(line: list[tuple[int, float, float, float]]) -> None:
    at, leads = [float(point[0]) for point in line], [point[1] for point in line]
    found = crossing(at, leads, [p[1] - p[2] for p in line], [p[1] + p[3] for p in line])
    for place in found.places:
        assert min(at) - 1e-9 <= place <= max(at) + 1e-9
        assert found.low is None or found.low <= place + 1e-9
        assert found.high is None or found.high >= place - 1e-9
    by_value = dict(zip(at, leads, strict=True))
    assert found.low is None or (found.low not in found.open and np.sign(by_value[found.low]) == found.before)
    assert found.high is None or (found.high not in found.open and np.sign(by_value[found.high]) == found.after)
    assert (found.kind == "none") == (found.places == ())
    order = np.random.default_rng(0).permutation(len(line))
    shuffled = [line[i] for i in order]
    assert crossing([float(p[0]) for p in shuffled], [p[1] for p in shuffled], [p[1] - p[2] for p in shuffled],
                    [p[1] + p[3] for p in shuffled]) == found  # fmt: skip


@given(LINE, st.floats(0, 0.5))
def test_wider_intervals_never_bound_it_more_narrowly(line: list[tuple[int, float, float, float]], more: float) -> None:
    at, leads = [float(point[0]) for point in line], [point[1] for point in line]
    narrow = crossing(at, leads, [p[1] - p[2] for p in line], [p[1] + p[3] for p in line])
    wide = crossing(at, leads, [p[1] - p[2] - more for p in line], [p[1] + p[3] + more for p in line])
    assert wide.places == narrow.places and set(wide.open) >= set(narrow.open)
    assert wide.low is None or (narrow.low is not None and wide.low <= narrow.low)
    assert wide.high is None or (narrow.high is not None and wide.high >= narrow.high)


@pytest.mark.parametrize("bend", [0.0, 5.0])
def test_the_values_around_it_hold_the_true_place_as_often_as_they_say(bend: float) -> None:
    """400 sweeps of 8 pairs a point over a lead that is known, straight or bent: it changes at 3.7. Seeded, so it cannot flip."""
    random = np.random.default_rng(5)
    at = [1.0, 2.0, 3.0, 4.0, 5.0]
    inside = shown = 0
    for _ in range(400):
        pairs = [0.15 * (3.7 - x) * (1 + bend * (x < 3.7)) + random.normal(0, 0.08, 8) for x in at]
        found = [interval(one) for one in pairs]
        place = crossing(at, [one.value for one in found], [one.low for one in found], [one.high for one in found])
        inside += (place.low is None or place.low <= 3.7) and (place.high is None or place.high >= 3.7)
        shown += place.low is not None and place.high is not None
    assert inside >= 0.95 * 400
    assert shown > 300  # it does not hold by saying nothing
