import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.budget import CLEANING_UP_S, Budget, parse_duration
from harness.core.errors import UsageError


@given(hours=st.integers(0, 50), minutes=st.integers(0, 90), seconds=st.integers(16, 90))
def test_durations_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


def test_units_may_be_left_out_and_fractions_given() -> None:
    assert (parse_duration("10m"), parse_duration("90s"), parse_duration("1.5h")) == (600, 90, 5400)


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "5m10", "-5m", "10s5m", "1e3s", "ten", "10M"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}' is not a duration; write .* as 10m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "15s", "0h0m1s"])
def test_a_budget_that_cleaning_up_would_eat_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"a budget of {text} is over before"):
        parse_duration(text)


def test_what_is_left_leaves_time_to_clean_up() -> None:
    now = [100.0]
    budget = Budget(60, clock=lambda: now[0])
    assert budget.left == 60 - CLEANING_UP_S
    now[0] += 50
    assert budget.left == 10 - CLEANING_UP_S


def test_an_enforced_budget_interrupts_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), Budget(CLEANING_UP_S + 0.02).enforced():
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) == before


def test_what_ends_in_time_is_not_interrupted() -> None:
    with Budget(CLEANING_UP_S + 0.05).enforced():
        pass
    time.sleep(0.08)  # the alarm would come here
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
