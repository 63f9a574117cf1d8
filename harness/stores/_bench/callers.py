"""Threads and event loops that call the store: made once, so that no cell pays for starting them or for new connections."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Call = Callable[[], object]
AsyncCall = Callable[[], Awaitable[object]]
Times = list[tuple[float, float]]
"""Begin and end of each call, by time.perf_counter."""


@dataclass(frozen=True, slots=True)
class Timing:
    """``seconds`` from the first call's begin to the last one's end; ``call_s`` is the median of a call."""

    seconds: float
    call_s: float


class Callers:
    """Up to ``threads`` threads; up to ``loops`` event loops, with an executor of ``in_flight`` threads each. Close it."""

    def __init__(self, threads: int, loops: int, in_flight: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bench")
        self._loops = [_LoopThread(in_flight) for _ in range(loops)]
        self._over = threading.Event()
        self._together = threading.Barrier(1)

    def run(self, calls: Sequence[Call], threads: int) -> Timing:
        """Deal ``calls`` to this many threads, which begin together. Raises what a call raises."""
        together = self._together = threading.Barrier(threads)

        def work(mine: Sequence[Call]) -> Times:
            together.wait()
            times = []
            for call in mine:
                if self._over.is_set():
                    break
                begin = time.perf_counter()
                call()
                times.append((begin, time.perf_counter()))
            return times

        return _timing(_all([self._pool.submit(work, calls[number::threads]) for number in range(threads)]))

    def arun(self, calls: Sequence[AsyncCall], loops: int, in_flight: int) -> Timing:
        """Deal ``calls`` to this many event loops, each with ``in_flight`` of them at once."""
        together = self._together = threading.Barrier(loops)

        async def one(mine: Sequence[AsyncCall], times: Times) -> None:
            for call in mine:
                if self._over.is_set():
                    break
                begin = time.perf_counter()
                await call()
                times.append((begin, time.perf_counter()))

        async def work(mine: Sequence[AsyncCall]) -> Times:
            together.wait()
            times: Times = []
            await asyncio.gather(*(one(mine[number::in_flight], times) for number in range(in_flight)))
            return times

        return _timing(_all([thread.submit(work(calls[number::loops])) for number, thread in enumerate(self._loops[:loops])]))

    def close(self) -> None:
        """End the threads after their current calls."""
        self._over.set()
        self._together.abort()  # Ctrl-C may have come before all were there
        self._pool.shutdown()
        for loop in self._loops:
            loop.close()


def _all(futures: "list[Future[Times]]") -> list[Times]:
    """Wait for all, so that no call of a failed cell runs on into the next one."""
    wait_for(futures)
    return [future.result() for future in futures]


def _timing(callers: Sequence[Times]) -> Timing:
    times = [pair for times in callers for pair in times]
    taken = sorted(end - begin for begin, end in times)
    return Timing(max(end for _, end in times) - min(begin for begin, _ in times), taken[len(taken) // 2])


class _LoopThread:
    """An event loop that runs in a thread until it is closed."""

    def __init__(self, executor_threads: int) -> None:
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(executor_threads)), name="bench-loop", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    async def _main(self, executor_threads: int) -> None:
        loop = asyncio.get_running_loop()
        # As the engines do: an aread that is a read in the loop's executor would be held to its default, cores + 4.
        loop.set_default_executor(ThreadPoolExecutor(executor_threads, thread_name_prefix="bench-aread"))
        self._ready.set_result(loop)
        await self._stop.wait()

    def submit(self, work: Coroutine[object, object, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
