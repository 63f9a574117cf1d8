"""Bytes from one process into another over a loopback socket, and nothing else: what a store over TCP cannot beat here."""

import socket
import struct
import subprocess
import sys
import threading
from functools import partial

from harness.core.errors import StoreUnavailable
from harness.stores._bench.callers import Callers, Timing

_ASK = struct.Struct("<Q")

# A connection is answered by a thread of its own: for each eight bytes, a length, as many bytes of one block.
_SERVER = """
import socket, struct, sys, threading
block = memoryview(bytes(range(256)) * (int(sys.argv[1]) // 256 + 1))

def answer(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while (asked := connection.recv(8, socket.MSG_WAITALL)) and len(asked) == 8:
        connection.sendall(block[: struct.unpack("<Q", asked)[0]])

with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
    print(server.getsockname()[1], flush=True)
    threading.Thread(target=lambda: [threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()
                                     for _ in iter(int, 1)], daemon=True).start()
    sys.stdin.read()  # until whoever started this ends
"""


def receive(connection: socket.socket, place: memoryview) -> None:
    """Fill ``place``. Raises ConnectionError where the other side closes before."""
    done = 0
    while done < place.nbytes:
        got = connection.recv_into(place[done:])
        if got == 0:
            raise ConnectionError(f"the connection was closed after {done:,} of {place.nbytes:,} bytes")
        done += got


class SocketLimit:
    """Asks a process of its own for bytes, a connection a thread. Close it."""

    name = "bare socket"

    def __init__(self, largest: int) -> None:
        """Start it. Raises StoreUnavailable."""
        command = [sys.executable, "-c", _SERVER, str(largest)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self._process.stdout.readline() if self._process.stdout else ""
        if not said.strip().isdigit():
            self.close()
            raise StoreUnavailable("the process that answers the bare sockets did not start; --no-limit leaves it out")
        self._port = int(said)
        self._own = threading.local()
        self._open: list[socket.socket] = []

    def measure(self, callers: Callers, size: int, streams: int, places: list[memoryview]) -> Timing:
        """As Limit."""
        return callers.run([partial(self.read, place) for place in places], streams)

    def read(self, place: memoryview) -> None:
        """As many bytes as ``place`` has, over this thread's connection."""
        if not hasattr(self._own, "connection"):
            self._own.connection = socket.create_connection(("127.0.0.1", self._port))
            self._own.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(self._own.connection)
        self._own.connection.sendall(_ASK.pack(place.nbytes))
        receive(self._own.connection, place)

    def close(self) -> None:
        """End the process and close the connections."""
        for connection in getattr(self, "_open", ()):
            connection.close()
        if self._process.stdin:
            self._process.stdin.close()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.kill()
        self._process.wait()
