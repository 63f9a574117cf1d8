"""Connections to Redis servers for event loops: received straight into the memory of the reads, in the clear or by TLS.

Each loop has connections of its own, and they end with it: ``asyncio.run`` closes the asynchronous
generators of its loop, and one of ours holds them.
"""

import asyncio
import math
import select
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import cast

from harness.stores.redis.address import Address, Login
from harness.stores.redis.protocol import LEAST_WINDOW, Exchange, ProtocolViolation, Request, window_bytes
from harness.stores.redis.wire import FAILURES, Late, check_login

_SCRATCH_BYTES = 256 << 10
_DIRECT_BYTES = 128 << 10
"""Each receive is a turn of the loop, of 10 to 20 microseconds: smaller parts are worth a copy instead."""


def loop_exchange(requests: Sequence[Request]) -> Exchange:
    """An exchange that suits an event loop."""
    expected = sum(request.length for request in requests)
    return Exchange(requests, min(_SCRATCH_BYTES, expected), _DIRECT_BYTES)


class LoopWire(asyncio.BufferedProtocol):
    """One connection of one event loop; one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._loop, self._timeout_s = loop, timeout_s
        self._transport: asyncio.Transport | None = None
        self._idle = select.poll()
        self._window = LEAST_WINDOW
        self._exchange: Exchange | None = None
        self._finished: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle
        self._last_progress = 0.0
        self._nowhere = bytearray(1)
        self.closed: asyncio.Future[None] = loop.create_future()

    @classmethod
    async def connect(cls, address: Address, login: Login) -> "LoopWire":
        """Connect and log in. Raises OSError, Refused, ProtocolViolation."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(login.timeout_s):
            make = partial(cls, loop, login.timeout_s)
            if address.is_path:
                _, wire = await loop.create_unix_connection(make, address.host)
            else:
                _, wire = await loop.create_connection(make, address.host, address.port, ssl=login.tls)
        hello = loop_exchange(login.requests())
        try:
            start = loop.time()
            await wire.carry_out(hello)
            wire._window = window_bytes(loop.time() - start)
            check_login(hello)
        except BaseException:
            wire.abort()
            raise
        return wire

    @property
    def usable(self) -> bool:
        """Whether an idle connection is still good: the server has neither closed it nor sent anything."""
        return not self.closed.done() and not self._idle.poll(0)

    async def carry_out(self, exchange: Exchange) -> None:
        """Send and receive all of it. The time-out is for each wait: bytes that come slowly are no failure."""
        if self._transport is None or self.closed.done():
            raise ConnectionResetError("the server closed the connection")
        exchange.window = self._window
        self._exchange = exchange
        self._finished = self._loop.create_future()
        self._last_progress = self._loop.time()
        self._timer = self._loop.call_later(self._timeout_s, self._check_progress)
        try:
            self._transport.write(exchange.outgoing())
            await self._finished
        except BaseException:  # also when cancelled: nothing may come into the reads' memory after this
            self.abort()
            raise
        finally:
            self._timer.cancel()
            self._exchange = None

    def abort(self) -> None:
        """Close at once; nothing is received after this."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._idle.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview | bytearray:
        """Called by asyncio: where to receive."""
        return self._nowhere if self._exchange is None else self._exchange.target()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio: so much has been received there."""
        exchange = self._exchange
        if exchange is None:
            self.abort()
            return
        self._last_progress = self._loop.time()
        try:
            exchange.arrived(nbytes)
        except ProtocolViolation as error:
            self._fail(error)
            self.abort()
            return
        if exchange.done:
            self._exchange = None
            if not self._finished.done():  # done: the caller has just been cancelled
                self._finished.set_result(None)
        elif self._transport is not None and (more := exchange.outgoing()):
            self._transport.write(more)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._fail(exc or ConnectionResetError("the server closed the connection"))
        if not self.closed.done():
            self.closed.set_result(None)

    def _check_progress(self) -> None:
        rest = self._last_progress + self._timeout_s - self._loop.time()
        if rest > 0:
            self._timer = self._loop.call_later(rest, self._check_progress)
        else:
            self._fail(TimeoutError("timed out"))

    def _fail(self, error: Exception) -> None:
        if not self._finished.done():
            self._finished.set_exception(error)
            if self._exchange is None:  # nobody waits for it
                self._finished.exception()


class _OfLoop:
    """The connections of one loop, at most ``size`` to each server. Used in that loop only."""

    def __init__(self, login: Login, size: int) -> None:
        self._login = login
        self._free: defaultdict[Address, asyncio.Semaphore] = defaultdict(partial(asyncio.Semaphore, size))
        self._idle: defaultdict[Address, list[LoopWire]] = defaultdict(list)

    async def carry_out(self, address: Address, exchange: Exchange, deadline: float) -> Exception | None:
        """Run one exchange; returns what broke it, Late if it was the deadline."""
        if math.isinf(deadline):
            return await self._carry_out(address, exchange)
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                return await self._carry_out(address, exchange)
        except TimeoutError:
            return Late()

    async def _carry_out(self, address: Address, exchange: Exchange) -> Exception | None:
        async with self._free[address]:
            try:
                wire = await self._take(address)
                await wire.carry_out(exchange)
            except FAILURES as error:
                return error
            self._idle[address].append(wire)
            return None

    async def _take(self, address: Address) -> LoopWire:
        idle = self._idle[address]
        while idle:
            wire = idle.pop()
            if wire.usable:
                return wire
            wire.abort()
        return await LoopWire.connect(address, self._login)

    async def close(self) -> None:
        """End what is idle."""
        wires = [wire for idle in self._idle.values() for wire in idle]
        self._idle.clear()
        for wire in wires:
            wire.abort()
        await asyncio.gather(*(wire.closed for wire in wires))


class LoopWires:
    """The connections of all event loops. Thread-safe."""

    def __init__(self, login: Login, size: int) -> None:
        self._login, self._size = login, size
        self._lock = threading.Lock()
        self._holders: dict[asyncio.AbstractEventLoop, tuple[_OfLoop, AsyncGenerator[None]]] = {}

    async def carry_out(self, exchanges: Mapping[Address, Exchange], deadline: float = math.inf) -> dict[Address, Exception]:
        """As ``Wires.carry_out``."""
        wires = await self._of_running_loop()
        if len(exchanges) == 1:
            ((address, exchange),) = exchanges.items()
            results = [await wires.carry_out(address, exchange, deadline)]
        else:
            results = await asyncio.gather(*(wires.carry_out(*item, deadline) for item in exchanges.items()))
        return {address: error for address, error in zip(exchanges, results, strict=True) if error is not None}

    async def _of_running_loop(self) -> _OfLoop:
        loop = asyncio.get_running_loop()
        held = self._holders.get(loop)
        if held is None:
            wires = _OfLoop(self._login, self._size)
            holder = self._hold(loop, wires)
            with self._lock:
                held = self._holders[loop] = (wires, holder)
            await anext(holder)  # the loop knows it from now on
        return held[0]

    async def _hold(self, loop: asyncio.AbstractEventLoop, wires: _OfLoop) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._holders.pop(loop, None)
            await wires.close()

    def close(self) -> None:
        """Let the loops that still run end their connections: each closes a holder that nobody holds any more."""
        with self._lock:
            self._holders.clear()
