"""A store that is left alone for a while after it has failed again and again.

A server that hangs costs each lookup its time-out and each load its deadline. After ``MOST_FAILED`` loads or lookups in a row all
calls fail at once for ``SKIPPED_S``; then one call tries the store, and whether that succeeds decides. Each time it fails, the
pause doubles, up to ``LONGEST_S``.
"""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from harness.core.errors import ReadFailures, StoreError, StoreUnavailable
from harness.stores.base import Buffer, Read, Store
from harness.stores.wrapper import Wrapper

logger = logging.getLogger("vllm.ttft")

MOST_FAILED = 3
KEPT = 64
"""Loads, the newest, of which it is known whether they failed: more than go on at once."""
SKIPPED_S = 5.0
LONGEST_S = 60.0
FAIR_S = 1.0
"""A load that has less time than this when it comes here is not counted: whoever sends requests chooses their deadlines, and
must not have the store skipped for everybody else."""


class Skipping(Wrapper):
    """Refuses calls while ``inner`` is skipped, with StoreUnavailable. Thread-safe; each process has its own view.

    All reads with one deadline are one load, which has failed if one of them could not be had for want of the store: an object
    that is missing or damaged says nothing against it. Loads of less than ``FAIR_S`` don't count. Writes that fail don't count
    either, as a store that is full still serves; but they are refused as well, and one that succeeds ends the pause.
    """

    def __init__(self, inner: Store, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self.skips = 0
        """How often the store was skipped so far."""
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._loads: dict[object, bool] = {}
        self._until: float | None = None
        self._pause_s = SKIPPED_S
        self._trying = False

    @property
    def skipping(self) -> bool:
        """Whether the store is skipped, or has not been tried since."""
        return self._until is not None

    def exists(self, keys: Sequence[str]) -> int:
        """Each is a load of its own."""
        with self._call(next(self._numbers)):
            return self.inner.exists(keys)

    def read(self, reads: Sequence[Read]) -> None:
        """A part of the load that its deadline names."""
        load = self._load_of(reads)
        if self._until is None and load in self._loads:  # nearly always; what ``_call`` does beside costs several microseconds
            try:
                self.inner.read(reads)
            except StoreError as error:
                self._note(load, error)
                raise
        else:
            with self._call(load):
                self.inner.read(reads)

    async def aread(self, reads: Sequence[Read]) -> None:
        """A part of the load that its deadline names."""
        load = self._load_of(reads)
        if self._until is None and load in self._loads:
            try:
                await self.inner.aread(reads)
            except StoreError as error:
                self._note(load, error)
                raise
        else:
            with self._call(load):
                await self.inner.aread(reads)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Refused as well."""
        with self._call(None):
            self.inner.write(key, parts)

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """Refused as well."""
        with self._call(None):
            self.inner.write_many(objects)

    def _load_of(self, reads: Sequence[Read]) -> object:
        """All reads of a load have one deadline; without one, each call is a load of its own."""
        deadline = reads[0].deadline if reads else math.inf
        return next(self._numbers) if deadline == math.inf else deadline

    @contextmanager
    def _call(self, load: object | None) -> Iterator[None]:
        """One call of ``inner``; ``load`` is what it belongs to, None for writes."""
        short = self._short(load)
        tries = self._begin(None if short else load)
        answered = False
        try:
            yield
            answered = True
        except StoreError as error:
            answered = _unavailable(error) is None
            if not tries:
                self._note(load, error)
            raise
        finally:
            if tries:
                self._tried(answered, short)

    def _note(self, load: object | None, error: StoreError) -> None:
        """A call of a store that was not skipped when it began has failed."""
        failure = _unavailable(error)
        if failure is None or load is None:
            return
        with self._lock:
            if self._until is None:
                self._failed(load, failure)

    def _begin(self, load: object | None) -> bool:
        """Whether the call tries a store that was skipped. Raises StoreUnavailable where it is skipped still."""
        with self._lock:
            if self._until is not None:
                left = self._until - self._clock()
                if left > 0 or self._trying:
                    raise StoreUnavailable(f"{self.url} kept failing and is skipped for another {max(left, 0):.1f} s")
                self._trying = True
                return True
            if load is not None and load not in self._loads:
                self._loads[load] = False
                if len(self._loads) > KEPT:
                    del self._loads[next(iter(self._loads))]
        return False

    def _short(self, load: object | None) -> bool:
        """Whether it is a load that has too little time to tell anything. Only a deadline is a float."""
        return isinstance(load, float) and load - self._clock() < FAIR_S

    def _failed(self, load: object, failure: StoreError) -> None:
        if load in self._loads:
            self._loads[load] = True
        # Loads that began after the newest that failed may be under way still: they say nothing yet.
        begun = list(self._loads.values())
        newest = max((place for place, failed in enumerate(begun) if failed), default=0)
        if newest + 1 >= MOST_FAILED and all(begun[newest + 1 - MOST_FAILED : newest + 1]):
            self.skips += 1
            self._skip(SKIPPED_S)
            logger.warning(
                "%d loads or lookups in a row failed, so %s is skipped for %.0f s and tried again then; the last: %s",
                MOST_FAILED, self.url, SKIPPED_S, failure,
            )  # fmt: skip

    def _tried(self, answered: bool, short: bool) -> None:
        with self._lock:
            self._trying = False
            if answered:
                self._until = None
            elif not short:  # else the next call tries again
                self._skip(min(2 * self._pause_s, LONGEST_S))
        if answered:
            logger.warning("%s works again", self.url)

    def _skip(self, seconds: float) -> None:
        self._pause_s = seconds
        self._until = self._clock() + seconds
        self._loads.clear()


def _unavailable(error: StoreError) -> StoreError | None:
    """Why the store could not be asked; None where it answered, if only that something is not there."""
    if isinstance(error, ReadFailures):
        lost = [reason for reason in error.failures.values() if isinstance(reason, StoreUnavailable)]
        return lost[0] if lost else None
    return error if isinstance(error, StoreUnavailable) else None
