"""Schedules: as many as were asked for, in order, at the rate that was asked for, and the same each time."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.replay.arrivals import KINDS, parse_arrivals, times

OPEN = ["constant:rate=4", "poisson:rate=4", "gamma:rate=4,burstiness=0.5", "gamma:rate=4,burstiness=3", "ramp:first=2,last=8"]


def schedule(spec: str, count: int) -> list[float]:
    found = times(parse_arrivals(spec), [0.0] * count)
    assert found is not None
    return found


@settings(deadline=None)
@given(spec=st.sampled_from(OPEN), count=st.integers(0, 300))
def test_as_many_as_asked_for_from_0_on_and_never_back(spec: str, count: int) -> None:
    found = schedule(spec, count)
    assert len(found) == count
    assert found[:1] == [0.0] * min(count, 1)
    assert all(a <= b for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("spec", OPEN)
def test_the_same_spec_is_the_same_schedule(spec: str) -> None:
    assert schedule(spec, 50) == schedule(spec, 50)


@pytest.mark.parametrize("spec", ["poisson:rate=4", "gamma:rate=4,burstiness=0.5"])
def test_another_seed_is_another_schedule(spec: str) -> None:
    assert schedule(spec, 50) != schedule(f"{spec},seed=1", 50)


@pytest.mark.parametrize("spec", OPEN[:4])
def test_the_mean_rate_is_the_one_asked_for(spec: str) -> None:
    found = schedule(spec, 40_001)
    assert 40_000 / found[-1] == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize(("spec", "cv"), [("constant:rate=4", 0), ("poisson:rate=4", 1), ("gamma:rate=4,burstiness=0.25", 2)])
def test_gaps_vary_as_much_as_their_kind_says(spec: str, cv: float) -> None:
    """The coefficient of variation of a gamma's gaps is 1 / sqrt(shape)."""
    gaps = np.diff(schedule(spec, 40_001))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.05)


def test_a_ramp_goes_from_its_first_rate_to_its_last() -> None:
    gaps = np.diff(schedule("ramp:first=2,last=8", 101))
    assert (gaps[0], gaps[-1]) == (pytest.approx(1 / 2), pytest.approx(1 / 8))


def test_a_trace_keeps_its_gaps_from_its_first_request_on() -> None:
    assert times(parse_arrivals("trace:speed=2"), [10.0, 11.0, 15.0]) == [0.0, 0.5, 2.5]
    assert times(parse_arrivals("trace"), [7.0]) == [0.0]


def test_a_workload_without_times_cannot_be_replayed_as_a_trace() -> None:
    with pytest.raises(UsageError, match=r"no arrival times, .* as poisson:rate=2"):
        times(parse_arrivals("trace"), [0.0, 0.0])


def test_a_closed_loop_has_no_schedule() -> None:
    assert times(parse_arrivals("closed"), [1.0, 2.0]) is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("often", r"unknown arrivals 'often'; known: .*closed.*poisson"),
        ("poisson:rate=0", "rate=.0"),
        ("poisson:rate=inf", "rate=.inf"),
        ("poisson:speed=2", "speed"),
        ("gamma:burstiness=-1", "burstiness=.-1"),
        ("trace:speed=nan", "speed=.nan"),
    ],
)
def test_what_will_not_do_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_arrivals(spec)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_named_alone(name: str) -> None:
    assert isinstance(parse_arrivals(name), KINDS[name])
