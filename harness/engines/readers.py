"""Who carries out the store calls of the layerwise engine: threads with blocking reads, or event loops.

Calls are numbered; a number below ``limit`` may be taken. Raising the limit is all that the thread of
the forward has to do, so the work of planning a call is done by the reader that takes it.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial


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
        self._threads = [threading.Thread(target=self._loop, name=f"layerwise-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def _loop(self) -> None:
        while (number := self._numbers.take()) is not None:
            self._run(number)

    def close(self) -> None:
        """End the threads after their current call."""
        self._numbers.close()
        for thread in self._threads:
            thread.join()


class LoopReaders:
    """``loops`` event loops, each in a thread, that together keep up to ``count`` asynchronous calls in flight."""

    def __init__(self, count: int, loops: int, numbers: CallNumbers, run: Callable[[int], Awaitable[None]]) -> None:
        self._numbers = numbers
        self._run = run
        shares = [count // loops + (i < count % loops) for i in range(loops)]
        self._threads = [
            threading.Thread(target=lambda n=share: asyncio.run(self._loop(n)), name=f"layerwise-loop-{i}", daemon=True)
            for i, share in enumerate(shares)
            if share
        ]
        for thread in self._threads:
            thread.start()

    async def _loop(self, count: int) -> None:
        # An ``aread`` that is a read in the loop's executor would be held to its default size, cores + 4.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count, thread_name_prefix="layerwise-aread"))
        await asyncio.gather(*(self._reader() for _ in range(count)))

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
        """End the loops after their current calls."""
        self._numbers.close()
        for thread in self._threads:
            thread.join()
