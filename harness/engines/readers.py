"""Who carries out the store calls of the layerwise engine: threads with blocking reads, or event loops.

Calls are numbered; a number below ``limit`` may be taken. Raising the limit is all that the thread of
the forward has to do, so the work of planning a call is done by the reader that takes it.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from harness.core.errors import SetupError

CLOSING_S = 5.0
"""Seconds that closing waits for calls under way; each ends by the deadline of its load."""


def start(threads: Iterable[threading.Thread]) -> list[threading.Thread]:
    """Start them. Raises SetupError where the system refuses one; those before it run."""
    started: list[threading.Thread] = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError as error:
            raise SetupError(
                f"an engine's thread number {len(started) + 1} can't start ({error}); use fewer readers, or raise ulimit -u"
            ) from None
        started.append(thread)
    return started


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for them to end, CLOSING_S at most for all together."""
    until = time.monotonic() + CLOSING_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def started_pool(count: int, name: str) -> ThreadPoolExecutor:
    """A pool whose ``count`` threads run from the beginning. Raises SetupError where one can't start.

    A pool that starts them at need queues a call before it fails to start a thread for it: the caller gets an error, and
    another thread carries the call out later, into blocks that are somebody else's by then.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    all_run = threading.Barrier(count + 1)
    for number in range(count):
        try:
            pool.submit(all_run.wait)
        except RuntimeError as error:
            all_run.abort()
            pool.shutdown(cancel_futures=True)
            raise SetupError(
                f"only {number} of the {count} threads of {name} can start ({error}); use fewer, or raise ulimit -u"
            ) from None
    all_run.wait()
    return pool


def close_pool(pool: ThreadPoolExecutor) -> None:
    """End its threads after their current calls; waits CLOSING_S at most. Safe to call twice."""
    pool.shutdown(wait=False, cancel_futures=True)
    join(pool._threads)


class CallNumbers:
    """Hands out 0, 1, 2, ... below a limit that moves. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._ready = threading.Condition(self.lock)
        self._next = 0
        self._limit = 0
        self._closed = False
        self._sleepers: list[Callable[[], object]] = []

    def restart(self, limit: int) -> None:
        """Begin again at 0; every number of the last round has been taken and done."""
        with self.lock:
            self._next = 0
            self._limit = 0
        self.allow(limit)

    def allow(self, limit: int) -> None:
        """Numbers below ``limit`` may be taken."""
        with self.lock:
            more = limit - self._limit
            if more <= 0:
                return
            self._limit = limit
            self._ready.notify(more)
            sleepers, self._sleepers = self._sleepers[:more], self._sleepers[more:]
        for wake in sleepers:
            wake()

    def take(self) -> int | None:
        """The next number, waiting for it; None once closed."""
        with self.lock:
            while not self._closed and self._next >= self._limit:
                self._ready.wait()
            return self._claim()

    def take_or(self, wake: Callable[[], object]) -> int | None:
        """The next number if there is one; else None, and ``wake`` is called once when there may be one or all is over."""
        with self.lock:
            if not self._closed:
                if self._next < self._limit:
                    return self._claim()
                self._sleepers.append(wake)
                return None
        wake()
        return None

    def _claim(self) -> int | None:
        if self._closed:
            return None
        self._next += 1
        return self._next - 1

    @property
    def closed(self) -> bool:
        """Whether readers should end."""
        return self._closed

    def close(self) -> None:
        """Let every reader end."""
        with self.lock:
            self._closed = True
            self._ready.notify_all()
            sleepers, self._sleepers = self._sleepers, []
        for wake in sleepers:
            wake()


class ThreadReaders:
    """``count`` threads that carry out calls with a blocking function."""

    def __init__(self, count: int, numbers: CallNumbers, run: Callable[[int], None]) -> None:
        self._numbers = numbers
        self._run = run
        threads = (threading.Thread(target=self._loop, name=f"layerwise-{i}", daemon=True) for i in range(count))
        try:
            self._threads = start(threads)
        except SetupError:
            numbers.close()
            raise

    def _loop(self) -> None:
        while (number := self._numbers.take()) is not None:
            self._run(number)

    def close(self) -> None:
        """End the threads after their current call; waits CLOSING_S at most."""
        self._numbers.close()
        join(self._threads)


class LoopReaders:
    """``loops`` event loops, each in a thread, that together keep up to ``count`` asynchronous calls in flight."""

    def __init__(self, count: int, loops: int, numbers: CallNumbers, run: Callable[[int], Awaitable[None]]) -> None:
        self._numbers = numbers
        self._run = run
        shares = [count // loops + (i < count % loops) for i in range(loops)]
        self._pools: list[ThreadPoolExecutor] = []
        try:
            # An ``aread`` that is a read in the loop's executor would be held to its default size, cores + 4.
            self._pools.extend(started_pool(share, f"layerwise-aread-{i}") for i, share in enumerate(shares) if share)
            self._threads = start(
                threading.Thread(target=lambda p=pool: asyncio.run(self._loop(p)), name=f"layerwise-loop-{i}", daemon=True)
                for i, pool in enumerate(self._pools)
            )
        except SetupError:
            numbers.close()
            for pool in self._pools:
                close_pool(pool)
            raise

    async def _loop(self, pool: ThreadPoolExecutor) -> None:
        asyncio.get_running_loop().set_default_executor(pool)
        await asyncio.gather(*(self._reader() for _ in range(pool._max_workers)))

    async def _reader(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._numbers.closed:
            ready = asyncio.Event()
            number = self._numbers.take_or(partial(loop.call_soon_threadsafe, ready.set))
            if number is not None:
                await self._run(number)
            else:
                await ready.wait()  # also when closed, or the wake could come after the loop's end

    def close(self) -> None:
        """End the loops after their current calls; waits CLOSING_S at most."""
        self._numbers.close()
        join(self._threads)
