"""Thinning drops points, never the ends that a reader looks for."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.reporting.figures.thin import cloud, curve, note


@given(st.integers(1, 20_000), st.integers(200, 3000))
@settings(deadline=None)
def test_a_thinned_curve_keeps_its_ends_and_its_shape(length: int, most: int) -> None:
    places = curve(length, most)
    assert len(places) <= most or length <= most
    assert list(places) == sorted(set(places.tolist()))
    assert places[0] == 0
    assert places[-1] == length - 1
    assert np.diff(places).max(initial=1) <= length / (most - 101) + 1


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 4)), min_size=1, max_size=400), st.integers(1, 100))
@settings(deadline=None)
def test_a_thinned_cloud_keeps_the_extremes_of_each_group(points: list[tuple[float, int]], most: int) -> None:
    values, groups = np.array([value for value, _ in points]), np.array([group for _, group in points])
    places = cloud(values, groups, most)
    assert len(set(places.tolist())) == len(places) <= max(most, 0) + 2 * len(set(groups.tolist()))
    for group in set(groups.tolist()):
        mine = values[groups == group]
        kept = values[places][groups[places] == group]
        assert {mine.min(), mine.max()} <= set(kept.tolist())


def test_the_note_is_there_only_where_something_was_left_out() -> None:
    assert note(10, 10, "points") == ""
    assert "10 of 1,000 points" in note(10, 1000, "points")
