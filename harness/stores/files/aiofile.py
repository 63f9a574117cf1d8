"""``aiofile:///path``: the files of ``file://``, read through aiofiles, as LMCache's disk backends do.

aiofiles hands each step (open, seek, each read, close) to a pool of threads and waits for it, so that "asynchronous"
means threads inside. What it costs beside ``file://``, which is the same system calls without it, is the question.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

import numpy as np
from pydantic import Field

from harness.core.errors import ReadFailures, SetupError, StoreError
from harness.stores.base import Read, StoreOptions
from harness.stores.files.directory import DirectoryStore
from harness.stores.files.errors import missing, truncated, unavailable

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO


class AioFileOptions(StoreOptions):
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
        self._open_file = aiofiles.open
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="aiofile") if options.threads else None
        self._loop = _LoopThread()

    def read(self, reads: Sequence[Read]) -> None:
        """``aread`` on the store's own event loop, in a thread, while the caller waits."""
        self._loop.run(self.aread(reads))

    async def aread(self, reads: Sequence[Read]) -> None:
        """All reads of the batch at once, as far as the pool has threads."""
        results = await asyncio.gather(*map(self._aread_one, reads), return_exceptions=True)
        failures: dict[int, StoreError] = {}
        for position, result in enumerate(results):
            if isinstance(result, StoreError):
                failures[position] = result
            elif result is not None:
                raise result
        if failures:
            raise ReadFailures(failures)

    async def _aread_one(self, item: Read) -> None:
        path = self._path(item.key)
        parts = [part for part in item.out if part.nbytes]
        whole = parts[0] if len(parts) == 1 else np.empty(item.length, np.uint8).data
        try:
            # Unbuffered: a buffer of Python's would be one more copy.
            async with self._open_file(path, "rb", buffering=0, executor=self._pool) as file:
                done = await _fill(file, item.offset, whole)
        except FileNotFoundError:
            raise missing(item.key, path) from None
        except OSError as error:
            raise unavailable("read the object", path, error) from None
        if done < item.length:
            raise truncated(item, done)
        if len(parts) > 1:
            for part in parts:
                part[:], whole = whole[: part.nbytes], whole[part.nbytes :]

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """Drop, then count what is left; True where nothing is."""
        return self._evict(keys)

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        """Read what is not there."""
        self._bring_in(keys)

    def close(self) -> None:
        """End the loop's thread and the pool."""
        self._loop.close()
        if self._pool is not None:
            self._pool.shutdown()


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

    def close(self) -> None:
        """End the thread after what is under way."""
        with self._lock:
            if self._running is not None:
                loop, thread = self._running
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                self._running = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
