"""Connections to Redis servers for blocking reads: a pool for each server, and pipelines to several servers at once."""

import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from harness.stores.redis.address import Address, Login
from harness.stores.redis.protocol import LEAST_WINDOW, Exchange, ProtocolViolation, Refusal, window_bytes

FAILURES = (OSError, ProtocolViolation, OverflowError, UnicodeError)
"""What ends a connection. Time-outs are OSErrors; the last two are for addresses that a cluster names and that cannot be any."""


class Late(TimeoutError):
    """The deadline has passed."""


class Refused(OSError):
    """The server answers, but not to us; the text is its own."""


def check_login(exchange: Exchange) -> None:
    """Raises Refused with what the server said."""
    for reply in exchange.replies:
        if isinstance(reply, Refusal):
            raise Refused(reply.text)


class Wire:
    """One connection. Used by one thread at a time; after a failure it must be closed."""

    def __init__(self, address: Address, login: Login) -> None:
        """Connect and log in. Raises OSError, Refused, ProtocolViolation."""
        self._window = LEAST_WINDOW
        self.timeout_s = login.timeout_s
        self._socket = _connected(address, login.timeout_s)
        try:
            if login.tls is not None:
                self._socket.getpeername()  # of a peer that has hung up: wrap_socket would raise then, and close nothing
                self._socket = login.tls.wrap_socket(self._socket, server_hostname=address.host)
            hello = Exchange(login.requests())
            start = time.perf_counter()
            self.begin(hello)
            self.finish(hello)
            self._window = window_bytes(time.perf_counter() - start)
            check_login(hello)
        except BaseException:
            self._socket.close()
            raise
        self._idle = select.poll()
        self._idle.register(self._socket, select.POLLIN)

    @property
    def usable(self) -> bool:
        """Whether an idle connection is still good: the server has neither closed it nor sent anything."""
        return not self._idle.poll(0)

    def begin(self, exchange: Exchange, deadline: float = math.inf) -> None:
        """Send the first commands. Raises OSError."""
        exchange.window = self._window
        self._be_patient_until(deadline)
        self._socket.sendall(exchange.outgoing())

    def finish(self, exchange: Exchange, deadline: float = math.inf) -> None:
        """Receive all replies. The time-out is for each wait, the deadline for all of it: bytes may come slowly, not for ever."""
        wire = self._socket
        scatters = not isinstance(wire, ssl.SSLSocket)  # which has no recvmsg_into
        while not exchange.done:
            if deadline < math.inf:
                self._be_patient_until(deadline)
            count = wire.recvmsg_into(exchange.targets())[0] if scatters else wire.recv_into(exchange.target())
            if count == 0:
                raise ConnectionResetError("the server closed the connection")
            exchange.arrived(count)
            if more := exchange.outgoing():
                wire.sendall(more)

    def _be_patient_until(self, deadline: float) -> None:
        left = min(deadline - time.monotonic(), self.timeout_s)
        if left <= 0:
            raise Late
        if left != self._socket.gettimeout():
            self._socket.settimeout(left)

    def close(self) -> None:
        """Safe to call twice."""
        self._socket.close()


def _connected(address: Address, timeout_s: float) -> socket.socket:
    if not address.is_path:
        connected = socket.create_connection(address, timeout=timeout_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout_s)
        connected.connect(address.host)
    except BaseException:
        connected.close()
        raise
    return connected


class WirePool:
    """At most ``size`` connections to one server; callers wait for a free one. Thread-safe."""

    def __init__(self, address: Address, login: Login, size: int) -> None:
        self._address, self._login = address, login
        self._free = threading.Semaphore(size)
        self._idle: list[Wire] = []  # the last one used comes first: its memory is warm
        self._closed = False

    def take(self, deadline: float = math.inf) -> Wire:
        """A connection, new if need be; to be given back. Raises what ``Wire`` raises."""
        left = deadline - time.monotonic()
        if not self._free.acquire(timeout=None if math.isinf(left) else max(left, 0)):
            raise Late
        try:
            while self._idle:
                try:
                    wire = self._idle.pop()
                except IndexError:  # another thread was faster
                    break
                if wire.usable:
                    return wire
                wire.close()
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            login = self._login if left >= self._login.timeout_s else replace(self._login, timeout_s=left)
            wire = Wire(self._address, login)
            wire.timeout_s = self._login.timeout_s
            return wire
        except BaseException:
            self._free.release()
            raise

    def give_back(self, wire: Wire, *, good: bool) -> None:
        """End the loan; a connection that is not ``good`` is closed: what it would send next belongs to nobody."""
        if good and not self._closed:
            self._idle.append(wire)
        else:
            wire.close()
        self._free.release()

    def close(self) -> None:
        """Close what is idle; what is lent closes when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class Wires:
    """Pools for as many servers as there are. Thread-safe."""

    def __init__(self, login: Login, size: int) -> None:
        self._login, self._size = login, size
        self._pools: dict[Address, WirePool] = {}
        self._lock = threading.Lock()

    def _pool(self, address: Address) -> WirePool:
        with self._lock:
            if address not in self._pools:
                self._pools[address] = WirePool(address, self._login, self._size)
            return self._pools[address]

    def carry_out(self, exchanges: Mapping[Address, Exchange], deadline: float = math.inf) -> dict[Address, Exception]:
        """Run all exchanges, one a server, in one round trip; returns what broke those that did not finish.

        ``deadline``, on time.monotonic, is for all of them together; what it breaks is broken by Late.
        """
        failures: dict[Address, Exception] = {}
        lent: dict[Address, Wire] = {}
        try:
            for address in sorted(exchanges):  # one order, or two threads could wait for each other's connections
                try:
                    lent[address] = self._pool(address).take(deadline)
                    lent[address].begin(exchanges[address], deadline)
                except FAILURES as error:
                    failures[address] = error
            for address in lent.keys() - failures.keys():
                try:
                    lent[address].finish(exchanges[address], deadline)
                except FAILURES as error:
                    failures[address] = error
        finally:
            for address, wire in lent.items():
                self._pool(address).give_back(wire, good=exchanges[address].done)
        over = time.monotonic() >= deadline
        return {address: Late() if over and isinstance(error, TimeoutError) else error for address, error in failures.items()}

    def close(self) -> None:
        """Close all pools."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
