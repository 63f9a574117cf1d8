"""A TCP proxy on the loopback that can behave as a bad network or a dying server does, in front of any store's server."""

import random
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal, Self

Behaviour = Literal["pass", "slow", "never", "reset", "trickle", "short", "refuse"]
"""What becomes of the server's bytes: passed on, passed on after ``SLOW_S``, kept, the connection reset, one each
``TRICKLE_S``, the first half and then the end of the connection; ``refuse`` resets new connections as well."""

THREADS = "faulty-proxy"
"""The name of its threads."""
SLOW_S = 0.1
TRICKLE_S = 0.02
NOW_AND_THEN: tuple[Behaviour, ...] = ("slow", "trickle", "short", "reset")
"""What befalls a ``share`` of the replies."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class FaultyProxy:
    """Listens at ``port`` for a server at ``behind``. Set ``behaviour`` at any time; it holds for connections that are open.

    ``share``: of the pieces in which the server's bytes come, how many meet one of ``NOW_AND_THEN``. ``met``: how many did.
    """

    def __init__(self, behind: int, host: str = "127.0.0.1", share: float = 0.0) -> None:
        self.behaviour: Behaviour = "pass"
        self.met = 0
        self._share = share
        self._random = random.Random(0)
        self.behind = (host, behind)
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for item in [self._listener, *self._open]:
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()
        for thread in list(self._threads):
            thread.join(5)

    def _start(self, target: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, name=THREADS, daemon=True)  # type: ignore[arg-type]
        self._threads.add(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if self.behaviour == "refuse":
                _reset(client)
                continue
            try:
                server = socket.create_connection(self.behind)
            except OSError:
                _reset(client)
                continue
            for item in (client, server):
                item.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= {client, server}
            self._start(self._connect, client, server)

    def _connect(self, client: socket.socket, server: socket.socket) -> None:
        """One connection from its beginning to its end."""
        reset = threading.Event()
        asking = self._start(self._pump, client, server, False, reset)
        self._pump(server, client, True, reset)
        asking.join()
        for item in (client, server):
            item.close()
        self._open -= {client, server}
        self._threads -= {asking, threading.current_thread()}

    def _pump(self, source: socket.socket, target: socket.socket, from_server: bool, reset: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if from_server:
                    self._deliver(data, target, reset)
                else:
                    target.sendall(data)
        for item in (source, target):
            if not reset.is_set():  # or the client would see an orderly end before the reset
                with suppress(OSError):
                    item.shutdown(socket.SHUT_RDWR)

    def _deliver(self, data: bytes, target: socket.socket, reset: threading.Event) -> None:
        """Raises OSError where the connection is over."""
        unlucky = self._random.choice(NOW_AND_THEN) if self._share and self._random.random() < self._share else None
        self.met += unlucky is not None
        while data and not self._closed.is_set():
            match unlucky or self.behaviour:
                case "pass":
                    target.sendall(data)
                    return
                case "slow":
                    time.sleep(SLOW_S)
                    target.sendall(data)
                    return
                case "reset" | "refuse":
                    reset.set()
                    _reset(target)
                    raise ConnectionResetError
                case "short":
                    target.sendall(data[: len(data) // 2])
                    raise ConnectionAbortedError
                case "trickle":
                    target.sendall(data[:1])
                    data = data[1:]
                    self._closed.wait(TRICKLE_S)
                case "never":
                    self._closed.wait(TRICKLE_S)


def _reset(item: socket.socket) -> None:
    with suppress(OSError):
        item.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        item.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it, which would keep it open
    item.close()
