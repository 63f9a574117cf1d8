"""Threads and event loops that make the calls: all of them, once each, really at the same time, and no longer than asked."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from harness.stores._bench.callers import Callers


@pytest.fixture
def callers() -> Iterator[Callers]:
    callers = Callers(threads=4, loops=2, in_flight=3)
    yield callers
    callers.close()


@pytest.mark.parametrize("threads", [1, 3, 4])
def test_every_call_is_made_once(threads: int, callers: Callers) -> None:
    made: list[int] = []
    timing = callers.run([partial(made.append, number) for number in range(10)], threads)
    assert sorted(made) == list(range(10))
    assert 0 < timing.call_s <= timing.seconds


def test_threads_call_at_the_same_time(callers: Callers) -> None:
    meeting = threading.Barrier(4)
    callers.run([partial(meeting.wait, 20)] * 8, 4)


def test_loops_keep_as_many_in_flight_as_asked(callers: Callers) -> None:
    under_way: dict[int, int] = {}
    most: list[int] = []

    async def call() -> None:
        loop = id(asyncio.get_running_loop())
        under_way[loop] = under_way.get(loop, 0) + 1
        most.append(under_way[loop])
        await asyncio.sleep(0.001)
        under_way[loop] -= 1

    callers.arun([call] * 24, loops=2, in_flight=3)
    assert len(most) == 24
    assert len(under_way) == 2
    assert max(most) == 3


def test_an_error_of_a_call_is_raised_after_all_have_ended(callers: Callers) -> None:
    made: list[int] = []

    def fails() -> None:
        raise ValueError("as meant")

    with pytest.raises(ValueError, match="as meant"):
        callers.run([fails, partial(made.append, 1), partial(made.append, 2)], 3)
    assert sorted(made) == [1, 2]


async def _fails() -> None:
    raise ValueError("as meant")


def test_an_error_on_a_loop_is_raised(callers: Callers) -> None:
    with pytest.raises(ValueError, match="as meant"):
        callers.arun([_fails], 1, 1)


def test_closing_ends_callers_that_still_wait_for_one_another() -> None:
    callers = Callers(threads=2, loops=0, in_flight=1)
    callers._together = threading.Barrier(2)
    waiting = callers._pool.submit(callers._together.wait)
    callers.close()
    assert isinstance(waiting.exception(), threading.BrokenBarrierError)
