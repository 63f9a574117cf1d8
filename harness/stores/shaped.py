"""``shaped+...``: any store, made as slow as one behind a network. Put it before another store's scheme.

A call (a ``read`` with all of its batch, an ``exists``, a ``write``) is one round trip on one stream:
``latency + bytes / stream_mb_s``, longer if ``total_mb_s`` is shared with other calls. Calls from
several threads, or several ``aread``, overlap as on a network. The wrapped store does its work inside
that time and only the rest is slept, so a call takes the longer of the two. A failed read takes as long
as if it had succeeded. A read with a deadline that would end later ends there, and has failed.
"""

import asyncio
import hashlib
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Annotated
from urllib.parse import SplitResult

from pydantic import AfterValidator, Field

from harness.core.chunks import total_bytes
from harness.core.errors import ReadFailures, UsageError
from harness.stores.base import Buffer, Read, Store, StoreOptions, deadline_of, late
from harness.stores.link import Link, Transfer
from harness.stores.wrapper import NamedWrapper

_MEGA = 1e6


def _no_rate_of_years(rate: float) -> float:
    if rate != 0 and not rate >= 1e-3:
        raise ValueError("it must be 0, for no bound, or at least 0.001")
    return rate


Rate = Annotated[float, AfterValidator(_no_rate_of_years)]


class ShapedOptions(StoreOptions):
    """Options of ``shaped``; all others go to the wrapped store."""

    latency_ms: float = Field(0.0, ge=0, le=3.6e6, description="round trip of a call, milliseconds")
    stream_mb_s: Rate = Field(0.0, le=1e9, description="MB (1e6 bytes) per second of one call; 0: no bound")
    total_mb_s: Rate = Field(0.0, le=1e9, description="MB per second of all calls of this process together; 0: no bound")
    jitter: float = Field(0.0, ge=0, le=100, description="standard deviation of the latency over its mean, lognormal")
    slow_share: float = Field(0.0, ge=0, le=1, description="share of calls that take slow_ms longer, as with a store that stalls")
    slow_ms: float = Field(0.0, ge=0, le=3.6e6, description="milliseconds that a slow call takes longer")
    seed: int = Field(
        0, description="of jitter and slow calls: drawn from key, offset and how often that was asked for, whoever asks first"
    )
    shape_writes: bool = Field(False, description="slow down writes as well; off, since priming is not measured")


class ShapedStore(NamedWrapper):
    """A store behind a simulated network. ``total_mb_s`` holds for each opened store, not across processes."""

    name = "shaped"
    Options = ShapedOptions

    def __init__(self, url: SplitResult, options: ShapedOptions, inner: Store) -> None:
        super().__init__(url, options, inner)
        self.options: ShapedOptions = options
        self._link = Link(options.stream_mb_s * _MEGA or math.inf, options.total_mb_s * _MEGA or math.inf)
        self._lock = threading.Lock()
        # Lognormal with mean latency_ms and standard deviation jitter * latency_ms.
        variance = math.log1p(options.jitter**2)
        self._log_latency = NormalDist(-variance / 2, math.sqrt(variance)) if variance else None

        self._asked: Counter[str] = Counter()

    @classmethod
    def settings(cls, url: SplitResult, options: Mapping[str, str]) -> ShapedOptions:
        """Those of ``shaped``. Raises UsageError."""
        settings = super().settings(url, options)
        assert isinstance(settings, ShapedOptions)
        if bool(settings.slow_share) != bool(settings.slow_ms):
            raise UsageError(
                f"store '{cls.name}': slow_share={settings.slow_share:g} with slow_ms={settings.slow_ms:g} makes no call slow; "
                "give both, or neither"
            )
        return settings

    def exists(self, keys: Sequence[str]) -> int:
        """One round trip for all keys."""
        call = self._begin(f"exists {keys[0] if keys else ''}", len(keys), 0)
        try:
            return self.inner.exists(keys)
        finally:
            self._sleep(call)

    def read(self, reads: Sequence[Read]) -> None:
        """One round trip for the whole batch. Failures of the wrapped store pass as they are."""
        call, deadline = self._begin_read(reads), deadline_of(reads)
        try:
            self.inner.read(reads)
        finally:
            in_time = self._sleep(call, deadline)
        if not in_time:
            raise _all_late(reads)

    async def aread(self, reads: Sequence[Read]) -> None:
        """``read`` with the wrapped store's ``aread``; the event loop runs on meanwhile."""
        call, deadline = self._begin_read(reads), deadline_of(reads)
        in_time = True
        try:
            await self.inner.aread(reads)
        finally:
            while in_time and (rest := self._rest(call)) > 0:
                pause = _until(deadline, rest)
                await asyncio.sleep(pause)
                in_time = pause == rest
        if not in_time:
            raise _all_late(reads)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Slow only with ``shape_writes=1``."""
        if not self.options.shape_writes:
            self.inner.write(key, parts)
            return
        call = self._begin(f"write {key}", 0, total_bytes(parts))
        try:
            self.inner.write(key, parts)
        finally:
            self._sleep(call)

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """The wrapped store's batch as it is; object by object with ``shape_writes=1``."""
        if self.options.shape_writes:
            Store.write_many(self, objects)
        else:
            self.inner.write_many(objects)

    def _begin_read(self, reads: Sequence[Read]) -> Transfer:
        key, offset = (reads[0].key, reads[0].offset) if reads else ("", 0)
        return self._begin(f"read {key}", offset, sum(item.length for item in reads))

    def _begin(self, what: str, offset: int, size: int) -> Transfer:
        now = time.perf_counter()
        latency_s = self._latency_s(f"{what} {offset}")
        with self._lock:
            return self._link.send(now, now + latency_s, size)

    def _latency_s(self, call: str) -> float:
        """Drawn from the call itself, so that the order of threads has no effect."""
        milliseconds = self.options.latency_ms
        if self._log_latency is not None:  # a factor of mean 1
            milliseconds *= math.exp(self._log_latency.inv_cdf(_uniform(f"{self.options.seed} {call}")))
        if self.options.slow_share:
            with self._lock:  # a call is slow now and then, not a key for ever
                self._asked[call] += 1
                turn = self._asked[call]
            if _uniform(f"slow {self.options.seed} {call} {turn}") < self.options.slow_share:
                milliseconds += self.options.slow_ms
        return milliseconds / 1e3

    def _rest(self, call: Transfer) -> float:
        now = time.perf_counter()
        with self._lock:
            return self._link.end(call, now) - now

    def _sleep(self, call: Transfer, deadline: float = math.inf) -> bool:
        """Whether the call ended before its deadline."""
        # More than once if calls that began later have taken a share of total_mb_s.
        while (rest := self._rest(call)) > 0:
            pause = _until(deadline, rest)
            time.sleep(pause)
            if pause < rest:
                return False
        return True


def _until(deadline: float, rest: float) -> float:
    """Seconds to sleep: ``rest``, or less to the deadline."""
    return rest if math.isinf(deadline) else min(rest, max(deadline - time.monotonic(), 0.0))


def _all_late(reads: Sequence[Read]) -> ReadFailures:
    return ReadFailures({position: late(item.key) for position, item in enumerate(reads)})


def _uniform(text: str) -> float:
    """Between 0 and 1, neither included; always the same for a text."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")
    return (number + 0.5) / 2**48
