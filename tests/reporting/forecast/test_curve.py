"""Seconds over prefix lengths: read, interpolated, and not extrapolated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.reporting.forecast import Curve


def test_one_time_holds_everywhere() -> None:
    curve = Curve.parse("--compute-ms", "30")
    assert [curve.at(tokens) for tokens in (0, 256, 10_000_000)] == [0.03] * 3


def test_between_two_lengths_it_is_a_line() -> None:
    curve = Curve.parse("--compute-ms", "3072:50, 1024:30")
    assert [curve.at(tokens) for tokens in (1024, 2048, 3072)] == pytest.approx([0.03, 0.04, 0.05])


@pytest.mark.parametrize("tokens", [1023, 3073])
def test_beyond_what_is_known_it_says_so(tokens: int) -> None:
    with pytest.raises(UsageError, match=r"known for prefixes of 1,024 to 3,072 tokens, not of"):
        Curve.parse("--compute-ms", "1024:30,3072:50").at(tokens)


@given(st.dictionaries(st.integers(0, 10**6), st.floats(0, 100), min_size=2, max_size=6), st.data())
def test_a_value_lies_between_its_neighbours(points: dict[int, float], data: st.DataObject) -> None:
    curve = Curve.of("compute", points)
    tokens = data.draw(st.integers(min(points), max(points)))
    below, above = max(known for known in points if known <= tokens), min(known for known in points if known >= tokens)
    low, high = sorted([points[below], points[above]])
    assert low - 1e-9 <= curve.at(tokens) <= high + 1e-9


@pytest.mark.parametrize("text", ["", "fast", "-3", "nan", "inf", "a:3", "-5:3", "1024:", "1024:30,", ":5"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--compute-ms '.*' is invalid; write milliseconds, or TOKENS:MS"):
        Curve.parse("--compute-ms", text)


@pytest.mark.parametrize("text", ["30,40", "1024:30,1024:40", "30,1024:40"])
def test_two_times_for_a_length_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="more than one time for a length"):
        Curve.parse("--compute-ms", text)


def test_nothing_known_is_refused() -> None:
    with pytest.raises(UsageError, match="compute is known for no prefix length"):
        Curve.of("compute", {})
