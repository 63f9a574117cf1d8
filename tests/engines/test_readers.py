"""Numbers under a moving limit, and who is woken when it moves."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engines.readers import CallNumbers, LoopReaders, ThreadReaders
from harness.testing.engines import within


def test_numbers_are_handed_out_below_the_limit_only() -> None:
    numbers = CallNumbers()
    numbers.restart(2)
    woken: list[str] = []
    assert [numbers.take_or(lambda: woken.append("early")) for _ in range(2)] == [0, 1]
    assert numbers.take_or(lambda: woken.append("late")) is None
    assert woken == []
    numbers.allow(2)
    numbers.allow(1)
    assert woken == []
    numbers.allow(3)
    assert woken == ["late"]
    assert numbers.take() == 2


def test_restart_begins_again() -> None:
    numbers = CallNumbers()
    numbers.restart(5)
    assert [numbers.take() for _ in range(5)] == [0, 1, 2, 3, 4]
    numbers.restart(1)
    assert numbers.take() == 0
    assert numbers.take_or(lambda: None) is None


def test_only_as_many_are_woken_as_there_are_new_numbers() -> None:
    numbers = CallNumbers()
    woken: list[int] = []
    for i in range(4):
        numbers.take_or(lambda i=i: woken.append(i))  # type: ignore[misc]
    numbers.allow(1)
    assert woken == [0]
    numbers.allow(3)
    assert woken == [0, 1, 2]


def test_take_waits_for_the_limit() -> None:
    numbers = CallNumbers()
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(numbers.take)
        numbers.allow(1)
        assert taking.result(20) == 0


def test_closing_ends_everybody() -> None:
    numbers = CallNumbers()
    woken: list[str] = []
    numbers.take_or(lambda: woken.append("asleep"))
    with ThreadPoolExecutor(3) as pool:
        takers = [pool.submit(numbers.take) for _ in range(3)]
        numbers.close()
        assert [taker.result(20) for taker in takers] == [None] * 3
    assert woken == ["asleep"]
    assert numbers.closed


def test_who_comes_after_the_end_is_woken_at_once() -> None:
    """Or an event loop could wait for ever, or be woken after it was closed."""
    numbers = CallNumbers()
    numbers.allow(5)
    numbers.close()
    woken: list[str] = []
    assert numbers.take_or(lambda: woken.append("late")) is None
    assert woken == ["late"]
    assert numbers.take() is None


class Log:
    """Notes the numbers that readers carry out."""

    def __init__(self, wanted: int) -> None:
        self.numbers: list[int] = []
        self._wanted = wanted
        self._all = threading.Event()

    def run(self, number: int) -> None:
        self.numbers.append(number)
        if len(self.numbers) == self._wanted:
            self._all.set()

    async def arun(self, number: int) -> None:
        await asyncio.sleep(0)
        self.run(number)

    def wait(self) -> bool:
        return self._all.wait(20)


Start = Callable[[CallNumbers, Log], ThreadReaders | LoopReaders]

STARTS: dict[str, Start] = {
    "1 thread": lambda numbers, log: ThreadReaders(1, numbers, log.run),
    "5 threads": lambda numbers, log: ThreadReaders(5, numbers, log.run),
    "1 loop": lambda numbers, log: LoopReaders(4, 1, numbers, log.arun),
    "3 loops": lambda numbers, log: LoopReaders(4, 3, numbers, log.arun),
}


@settings(deadline=None, max_examples=15)
@given(start=st.sampled_from(sorted(STARTS)), limits=st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_each_number_is_carried_out_once(start: str, limits: list[int]) -> None:
    """However the limit moves."""
    numbers, log = CallNumbers(), Log(max(limits))
    readers = STARTS[start](numbers, log)
    for limit in limits:
        numbers.allow(limit)
    if max(limits):
        assert log.wait()
    within(readers.close)
    assert sorted(log.numbers) == list(range(max(limits)))


@pytest.mark.parametrize("start", sorted(STARTS))
def test_closing_lets_the_current_calls_finish(start: str) -> None:
    numbers = CallNumbers()
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Log):
        def run(self, number: int) -> None:
            begun.set()
            if go_on.wait(20):
                super().run(number)

        async def arun(self, number: int) -> None:
            await asyncio.to_thread(self.run, number)

    log = Slow(1)
    before = set(threading.enumerate())
    readers = STARTS[start](numbers, log)
    numbers.allow(1)
    assert begun.wait(20)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(readers.close)
        go_on.set()
        closing.result(20)
    assert log.numbers == [0]
    assert set(threading.enumerate()) <= before


def test_loops_take_blocking_calls_in_as_many_threads_as_they_have_readers() -> None:
    barrier = threading.Barrier(12)
    numbers, log = CallNumbers(), Log(12)

    async def run(number: int) -> None:
        await asyncio.get_running_loop().run_in_executor(None, barrier.wait, 20)
        log.run(number)

    work: Callable[[int], Awaitable[None]] = run
    readers = LoopReaders(12, 1, numbers, work)
    numbers.allow(12)
    assert log.wait()  # a number that nobody took before the end is never taken
    within(readers.close)
