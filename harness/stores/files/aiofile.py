"""``aiofile:///path``: the files of ``file://``, read through aiofiles, as LMCache's disk backends do.

aiofiles hands each step (open, seek, each read, close) to a pool of threads and waits for it, so that "asynchronous"
means threads inside. What it costs beside ``file://``, which is the same system calls without it, is the question.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

import numpy as np
from pydantic import Field

from harness.core.errors import ReadFailures, SetupError, StoreError
from harness.stores.base import Read, deadline_of, late
from harness.stores.files.directory import DirectoryOptions, DirectoryStore
from harness.stores.files.errors import missing, truncated, unavailable
from harness.stores.files.trust import open_regular

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO


class AioFileOptions(DirectoryOptions):
    """Options of ``aiofile``."""

    threads: int = Field(
        0, ge=0, le=1024, description="in aiofiles' pool, for all loops together; 0: each loop's default, as in LMCache"
    )


class AioFileStore(DirectoryStore):
    """One file an object, in the directory that the URL names, read through aiofiles.

    A read into one buffer makes no copy. One into several (paged blocks) goes through a buffer of its own and is
    copied, since a call of aiofiles fills one and costs some 100 µs. Writes are those of ``file://``.
    """

    name = "aiofile"
    Options = AioFileOptions

    def __init__(self, url: SplitResult, options: AioFileOptions) -> None:
        """Open. Raises UsageError, StoreUnavailable, and SetupError without the package aiofiles."""
        try:
            import aiofiles
        except ImportError:
            raise SetupError("aiofile stores need the package aiofiles; install it: pip install 'aiofiles>=24'") from None
        super().__init__(url, options)
        self.options: AioFileOptions = options
        self._open_file = aiofiles.open
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="aiofile") if options.threads else None
        self._loop = _LoopThread()

    def read(self, reads: Sequence[Read]) -> None:
        """``aread`` on the store's own event loop, in a thread, while the caller waits."""
        self._loop.run(self.aread(reads))

    async def aread(self, reads: Sequence[Read]) -> None:
        """All reads of the batch at once, as far as the pool has threads."""
        tasks = [asyncio.ensure_future(self._fetch(item)) for item in reads]
        try:
            await self._wait(tasks, reads)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        failures: dict[int, StoreError] = {}
        for position, (item, task) in enumerate(zip(reads, tasks, strict=True)):
            if not task.done():
                failures[position] = late(item.key)
                task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody else asks for it
                continue
            try:
                _put(task.result(), item)
            except StoreError as error:
                failures[position] = error
        if failures:
            raise ReadFailures(failures)

    async def _wait(self, tasks: "list[asyncio.Future[memoryview]]", reads: Sequence[Read]) -> None:
        """For all of them; from a file system that may hang, no longer than to the deadline or for ``timeout_s``."""
        if self._apart is None or not tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        else:
            await asyncio.wait(tasks, timeout=max(0.0, min(deadline_of(reads) - time.monotonic(), self.options.timeout_s)))

    async def _fetch(self, item: Read) -> memoryview:
        """Read into the only buffer of ``item``, or into memory that is copied: for several buffers, or if it may hang."""
        if time.monotonic() >= item.deadline:
            raise late(item.key)
        path = self._path(item.key)
        parts = [part for part in item.out if part.nbytes]
        whole = parts[0] if len(parts) == 1 and self._apart is None else np.empty(item.length, np.uint8).data
        try:
            # Unbuffered: a buffer of Python's would be one more copy.
            async with self._open_file(path, "rb", buffering=0, executor=self._pool, opener=self._opener) as file:
                done = await _fill(file, item.offset, whole)
        except FileNotFoundError:
            raise missing(item.key, path) from None
        except OSError as error:
            raise unavailable("read the object", path, error) from None
        if done < item.length:
            raise truncated(item, done)
        return whole

    def _opener(self, path: str, _: int) -> int:
        return open_regular(path, 0, self._shared)

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """Drop, then count what is left; True where nothing is."""
        return self._evict(keys)

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        """Read what is not there."""
        self._bring_in(keys)

    def close(self) -> None:
        """End the loop's thread and the pool; what hangs in them is left behind."""
        self._loop.close(self.options.timeout_s)
        if self._pool is not None:
            self._pool.shutdown(wait=self._apart is None, cancel_futures=True)


def _put(whole: memoryview, item: Read) -> None:
    """Copy what was read into the buffers of ``item``, unless it was read there."""
    if not (item.out and any(part.obj is whole.obj for part in item.out)):
        for part in item.out:
            part[:], whole = whole[: part.nbytes], whole[part.nbytes :]


async def _fill(file: "AsyncFileIO", offset: int, out: memoryview) -> int:
    """Read into ``out`` from ``offset`` on; returns the bytes read, fewer where the file ends."""
    if offset:
        await file.seek(offset)
    done = 0
    while done < out.nbytes:  # once, but for the 2 GiB that Linux moves in one call
        count = await file.readinto(out[done:])
        if not count:
            break
        done += count
    return done


class _LoopThread:
    """An event loop in a thread of its own, from the first use on. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for ``work`` to be done there; raises what it raises."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop())
        try:
            future.result()
        except BaseException:
            future.cancel()
            raise

    def _loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._running is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=(loop,), name="aiofile-loop", daemon=True)
                thread.start()
                self._running = loop, thread
            return self._running[0]

    def close(self, timeout_s: float) -> None:
        """End the thread after what is under way, but don't wait longer than that for it."""
        with self._lock:
            if self._running is not None:
                loop, thread = self._running
                loop.call_soon_threadsafe(loop.stop)
                thread.join(timeout_s)
                self._running = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        while left := asyncio.all_tasks(loop):  # reads that missed their deadlines; each closes its file
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
