"""A store between an engine and a real store: it tells a test what is asked for, and lets it delay or break reads."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from harness.stores.base import Buffer, Read, Store, StoreOptions


@dataclass(frozen=True)
class Call:
    """One ``read`` or ``aread``."""

    reads: tuple[Read, ...]
    asynchronous: bool
    thread: int
    """Identifier of the thread that made the call."""


class WatchedStore(Store):
    """Passes everything on. ``before(call)`` runs in each read first: it may wait, or raise."""

    def __init__(self, inner: Store, before: Callable[[Call], None] | None = None) -> None:
        super().__init__(urlsplit("watched://"), StoreOptions())
        self.inner = inner
        self.fills = inner.fills
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

    def register(self, buffers: Sequence[Any]) -> None:
        """Passed on."""
        self.inner.register(buffers)

    def exists(self, keys: Sequence[str]) -> int:
        """Passed on."""
        return self.inner.exists(keys)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Passed on."""
        self.inner.write(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        """Passed on."""
        self.inner.delete(keys)

    def keys(self) -> Iterator[str]:
        """Passed on."""
        return self.inner.keys()
