"""A store between an engine and a real store: it tells a test what is asked for, and lets it delay or break reads."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.stores.base import Read, Store
from harness.stores.wrapper import Wrapper


@dataclass(frozen=True)
class Call:
    """One ``read`` or ``aread``."""

    reads: tuple[Read, ...]
    asynchronous: bool
    thread: int
    """Identifier of the thread that made the call."""


class WatchedStore(Wrapper):
    """Passes everything on. ``before(call)`` runs in each read first: it may wait, or raise."""

    def __init__(self, inner: Store, before: Callable[[Call], None] | None = None) -> None:
        super().__init__(inner)
        self.calls: list[Call] = []
        self.under_way = 0
        self.most_under_way = 0
        self._before = before
        self._changed = threading.Condition()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 20) -> bool:
        """Wait until something about the calls is true; False when it was not in time."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def read(self, reads: Sequence[Read]) -> None:
        """Note the call, then pass it on."""
        call = Call(tuple(reads), False, threading.get_ident())
        self._begin(call)
        try:
            if self._before is not None:
                self._before(call)
            self.inner.read(reads)
        finally:
            self._end()

    async def aread(self, reads: Sequence[Read]) -> None:
        """As ``read``; ``before`` runs in a thread of its own, so that it may wait."""
        call = Call(tuple(reads), True, threading.get_ident())
        self._begin(call)
        try:
            if self._before is not None:
                await asyncio.to_thread(self._before, call)
            await self.inner.aread(reads)
        finally:
            self._end()

    def _begin(self, call: Call) -> None:
        with self._changed:
            self.calls.append(call)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self.under_way -= 1
            self._changed.notify_all()
