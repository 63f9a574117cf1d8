"""``shaped+...``: any store, made as slow as one behind a network. Put it before another store's scheme.

A call (a ``read`` with all of its batch, an ``exists``, a ``write``) is one round trip on one stream:
``latency + bytes / stream_mbps``, longer where ``total_mbps`` is shared with other calls. Calls from
several threads, or several ``aread``, overlap as on a network. The wrapped store does its work inside
that time and only the rest is slept, so a call takes the longer of the two. A failed read takes as long
as if it had succeeded.
"""

import asyncio
import hashlib
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from urllib.parse import SplitResult, urlencode

from pydantic import Field

from harness.core.chunks import total_bytes
from harness.core.errors import UsageError, known
from harness.core.options import parse_options
from harness.core.text import redact
from harness.stores.base import Buffer, Read, Store, StoreOptions, check_store, open_store, unsplit
from harness.stores.link import Link, Transfer
from harness.stores.wrapper import Wrapper

_MEGA = 1e6


class ShapedOptions(StoreOptions):
    """Options of ``shaped``; all others go to the wrapped store."""

    latency_ms: float = Field(0.0, ge=0, allow_inf_nan=False, description="round trip of a call, milliseconds")
    stream_mbps: float = Field(0.0, ge=0, allow_inf_nan=False, description="MB (1e6 bytes) a second of one call; 0: no bound")
    total_mbps: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="MB a second of all calls of this process together; 0: no bound"
    )
    jitter: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="standard deviation of the latency over its mean, lognormal"
    )
    seed: int = Field(0, description="of the jitter: one key and offset always gets the same latency")
    shape_writes: bool = Field(False, description="slow writes down as well; off, since priming is not measured")


class ShapedStore(Wrapper):
    """A store behind an imagined network. ``total_mbps`` holds for each opened store, not across processes."""

    name = "shaped"
    Options = ShapedOptions
    wraps = True

    def __init__(self, url: SplitResult, options: ShapedOptions, inner: Store) -> None:
        super().__init__(inner, url, options)
        self.options: ShapedOptions = options
        self._link = Link(options.stream_mbps * _MEGA or math.inf, options.total_mbps * _MEGA or math.inf)
        self._lock = threading.Lock()
        # Lognormal with mean latency_ms and standard deviation jitter * latency_ms.
        variance = math.log1p(options.jitter**2)
        self._log_latency = NormalDist(-variance / 2, math.sqrt(variance)) if variance else None

    @classmethod
    def check_address(cls, url: SplitResult) -> None:
        """That of the wrapped store."""
        from harness.stores import STORES

        inner = url.scheme.partition("+")[2]
        if not inner:
            raise UsageError(f"'{redact(unsplit(url))}' wraps nothing; write for instance shaped+file:///tmp/kv")
        STORES.get(inner.partition("+")[0]).check_address(url._replace(scheme=inner))

    @classmethod
    def settings(cls, url: SplitResult, options: Mapping[str, str]) -> ShapedOptions:
        """The options of ``shaped``; those of what is behind ``shaped+`` are checked as well."""
        own, inner = cls._apart(url, options)
        settings = parse_options(cls.Options, own, f"store '{cls.name}'")
        check_store(inner)
        return settings

    @classmethod
    def open(cls, url: SplitResult, options: Mapping[str, str]) -> "ShapedStore":
        """Take the options of ``shaped`` and open what is behind ``shaped+`` with the rest."""
        return cls(url, cls.settings(url, options), open_store(cls._apart(url, options)[1]))

    @classmethod
    def _apart(cls, url: SplitResult, options: Mapping[str, str]) -> tuple[dict[str, str], str]:
        """The options that are ours, and the URL behind ``shaped+`` with all others."""
        from harness.stores import STORES

        schemes = url.scheme.split("+")
        names: list[str] = []
        for scheme in schemes:
            store = STORES.get(scheme)
            names += store.Options.model_fields
            if not store.wraps:
                break
        for name in options:
            if name not in names:
                raise known(f"option of store '{url.scheme}'", name, names)
        own = {name: value for name, value in options.items() if name in cls.Options.model_fields}
        rest = {name: value for name, value in options.items() if name not in own}
        return own, unsplit(url._replace(scheme="+".join(schemes[1:]), query=urlencode(rest)))

    def exists(self, keys: Sequence[str]) -> int:
        """One round trip for all keys."""
        call = self._begin(f"exists {keys[0] if keys else ''}", len(keys), 0)
        try:
            return self.inner.exists(keys)
        finally:
            self._sleep(call)

    def read(self, reads: Sequence[Read]) -> None:
        """One round trip for the whole batch. Failures of the wrapped store pass as they are."""
        call = self._begin_read(reads)
        try:
            self.inner.read(reads)
        finally:
            self._sleep(call)

    async def aread(self, reads: Sequence[Read]) -> None:
        """``read`` with the wrapped store's ``aread``; the event loop runs on meanwhile."""
        call = self._begin_read(reads)
        try:
            await self.inner.aread(reads)
        finally:
            while (rest := self._rest(call)) > 0:
                await asyncio.sleep(rest)

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
        latency_s = self.options.latency_ms / 1e3 * self._jitter(what, offset)
        with self._lock:
            return self._link.send(now, now + latency_s, size)

    def _jitter(self, what: str, offset: int) -> float:
        """A factor of mean 1. Drawn from the call itself, so that the order of threads does not matter."""
        if self._log_latency is None:
            return 1.0
        text = f"{self.options.seed} {what} {offset}"
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")
        return math.exp(self._log_latency.inv_cdf((number + 0.5) / 2**48))

    def _rest(self, call: Transfer) -> float:
        now = time.perf_counter()
        with self._lock:
            return self._link.end(call, now) - now

    def _sleep(self, call: Transfer) -> None:
        # More than once where calls that began later have taken a share of total_mbps.
        while (rest := self._rest(call)) > 0:
            time.sleep(rest)
