"""Calls that may never return (a dead NFS mount, somebody else's client), held to a deadline.

Such a call can't be taken back, and may write to its memory hours later. So it runs in a thread of its own and into memory
of its own, and what has arrived in time is copied. Python ends daemon threads with the process, so a hung one holds nothing up.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

import numpy as np

from harness.core.errors import DeadlineMissed, ReadFailures, StoreError, StoreUnavailable
from harness.stores.base import GRACE_S, Read, Store, deadline_of, in_executor, late, no_thread, refuse_late
from harness.stores.wrapper import Wrapper

T = TypeVar("T")

MOST_HUNG = 16
"""Threads of one ``Apart`` that may hang; more calls are refused until one returns."""


class Apart:
    """Carries out calls, each in a thread of its own. ``place`` is what is said to hang. Thread-safe."""

    def __init__(self, place: str, timeout_s: float = math.inf) -> None:
        """``timeout_s`` bounds each call beside its deadline."""
        self._place = place
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._hung = 0

    def call(self, what: Callable[[], T], deadline: float = math.inf) -> T:
        """What ``what`` returns or raises. Raises DeadlineMissed at the deadline, whatever becomes of ``what``,
        and StoreUnavailable where ``MOST_HUNG`` calls hang already or no thread can be started."""
        if self._hung >= MOST_HUNG:
            raise StoreUnavailable(f"{self._hung} calls to {self._place} hang; see whether it is alive")
        answer: Future[T] = Future()
        try:
            threading.Thread(target=_run, args=(what, answer), name="ttft-apart", daemon=True).start()
        except RuntimeError as error:
            raise no_thread(error) from None
        left = min(deadline - time.monotonic(), self._timeout_s)
        try:
            return answer.result(None if math.isinf(left) else max(left, 0.0))
        except TimeoutError:
            if answer.done():  # its own
                raise
            self._count(1)
            answer.add_done_callback(lambda _: self._count(-1))
            raise DeadlineMissed(f"{self._place} did not answer in time; see whether it is alive") from None

    def read(self, reads: Sequence[Read], read: Callable[[Sequence[Read]], None]) -> None:
        """Carry out ``read`` for a batch, into memory of its own. Raises ReadFailures."""
        own = [np.empty(item.length, np.uint8) for item in reads]
        deadline = deadline_of(reads)
        inner = [Read(item.key, item.offset, (to.data,), item.deadline) for item, to in zip(reads, own, strict=True)]
        failures: dict[int, StoreError] = {}
        try:
            self.call(lambda: read(inner), deadline + GRACE_S / 5)  # ``read`` itself may know what of it was in time
        except ReadFailures as error:
            failures = error.failures
        except DeadlineMissed:
            failures = {position: late(item.key) for position, item in enumerate(reads)}
        except StoreError as error:
            failures = dict.fromkeys(range(len(reads)), error)
        for position, (item, source) in enumerate(zip(reads, own, strict=True)):
            if position not in failures:
                begin = 0
                for part in item.out:
                    part[:] = source.data[begin : begin + part.nbytes]
                    begin += part.nbytes
        if failures:
            raise ReadFailures(failures)

    def _count(self, change: int) -> None:
        with self._lock:
            self._hung += change


def _run(what: Callable[[], T], answer: "Future[T]") -> None:
    try:
        answer.set_result(what())
    except BaseException as error:  # noqa: BLE001 - the caller's, in whose thread it is raised
        answer.set_exception(error)


class Shut(Exception):
    """The caller no longer waits."""


class Gate:
    """Lets copies into the caller's memory through until it is shut, which waits for the one that is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shut = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._shut:
            self._lock.release()
            raise Shut

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def shut(self) -> None:
        """From now on entering raises Shut."""
        with self._lock:
            self._shut = True


def submit_all(pool: Executor, calls: Sequence[Callable[[], T]], gate: Gate) -> "list[Future[T]]":
    """Begin ``calls``, whose copies go through ``gate``. Raises StoreUnavailable where a thread can't be started; what was
    begun before copies nothing then."""
    try:
        return [pool.submit(call) for call in calls]
    except RuntimeError as error:
        gate.shut()
        raise no_thread(error) from None


class Bounded(Wrapper):
    """A store that knows no deadlines, held to those of its reads. Reads into device memory, and those without a deadline,
    pass as they are; but no call begins after its deadline."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._apart = Apart(self.url)

    def read(self, reads: Sequence[Read]) -> None:
        """In a thread and memory of its own where there is a deadline."""
        if math.isinf(deadline_of(reads)):
            self.inner.read(reads)
        elif all(isinstance(part, memoryview) for item in reads for part in item.out):
            self._apart.read(reads, self.inner.read)
        else:
            refuse_late(reads)
            self.inner.read(reads)

    async def aread(self, reads: Sequence[Read]) -> None:
        """The store's own without a deadline, else ``read`` in a thread of the loop's executor."""
        if math.isinf(deadline_of(reads)):
            await self.inner.aread(reads)
        else:
            await in_executor(self.read, reads)
