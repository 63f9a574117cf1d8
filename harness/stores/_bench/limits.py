"""The physical limit beside a store: the same bytes without it, by fio for files and by a bare socket for the network."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.core.errors import StoreUnavailable
from harness.stores._bench.callers import Callers, Timing
from harness.stores.base import Store
from harness.stores.files.directory import DirectoryStore
from harness.stores.files.disk import DiskStore
from harness.stores.files.memory import MemoryStore
from harness.stores.shaped import ShapedStore

BLOCK = 4096
"""What direct reads are made of."""


class Limit(Protocol):
    """Moves the bytes of objects without the store."""

    name: str
    """What it is, for tables."""

    def measure(self, callers: Callers, size: int, streams: int, places: list[memoryview]) -> Timing:
        """Fill ``places``, each with an object of ``size`` bytes, over this many streams at once."""

    def close(self) -> None:
        """Remove what it made."""


def limit_of(store: Store, sizes: Sequence[int], keys: int) -> tuple[Limit | None, str]:
    """The limit of this kind of store, and a sentence about it. ``keys`` objects of each size will be read."""
    largest = max(sizes)
    if isinstance(store, ShapedStore):
        return None, "no limit is measured beside a shaped store: it is as fast as its URL asks for"
    if not isinstance(store, DirectoryStore):
        return SocketLimit(largest), (
            "limit: a bare socket over this machine's loopback, from a process that does nothing else; what copying "
            "costs here, not what a network between two machines allows"
        )
    direct = isinstance(store, DiskStore) and store.options.direct
    program = fio_program()
    if program is None:
        return None, "no limit is measured beside it: fio is not installed (Debian: apt-get install fio)"
    if direct and any(size % BLOCK for size in sizes):
        return None, f"no limit is measured beside it: fio's direct reads want sizes that are multiples of {BLOCK:,} bytes"
    where = "memory" if isinstance(store, MemoryStore) else "page cache" if not direct else "disk"
    text = f"limit: fio reads of the same size from one open file of the same file system ({where}), into one small buffer"
    return FioLimit(program, store.root, keys * largest, direct), text


RUNTIME_MS = 300
_TIMEOUT_S = 60
_PIECE = 8 << 20


def fio_program() -> str | None:
    """Where fio is installed, or None."""
    return shutil.which("fio")


class FioLimit:
    """Random reads of one file of ``total`` bytes below ``root``, through the page cache or past it. Close it."""

    name = "fio"

    def __init__(self, program: str, root: Path, total: int, direct: bool) -> None:
        """Write the file: what was never written would be read faster. Raises StoreUnavailable."""
        self._program = program
        self._direct = direct
        self._total = total
        self._folder = tempfile.TemporaryDirectory(prefix=".ttft-fio-", dir=root)
        try:
            self._file = Path(self._folder.name) / "data"
            data = np.random.default_rng(0).bytes(_PIECE)
            with self._file.open("wb") as file:
                for begin in range(0, total, _PIECE):
                    file.write(data[: total - begin])
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"cannot write {total:,} bytes for fio to {root}: {error.strerror}; make room") from error
        except KeyboardInterrupt:
            self.close()
            raise

    def measure(self, callers: Callers, size: int, streams: int, places: list[memoryview]) -> Timing:
        """As Limit; fio fills a buffer of its own. What it reads in RUNTIME_MS is scaled to the number of ``places``."""
        words = [
            self._program, "--name=limit", f"--filename={self._file}", "--rw=randread", f"--bs={size}",
            f"--direct={self._direct:d}", f"--size={self._total // size * size}", "--ioengine=psync", "--invalidate=0",
            "--thread", f"--numjobs={streams}", "--group_reporting", "--time_based", f"--runtime={RUNTIME_MS}ms",
            "--output-format=json",
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise StoreUnavailable(f"fio ended with exit status {done.returncode}: {last}; --no-limit skips it")
        return timing_of(json.loads(done.stdout), len(places) * size)

    def close(self) -> None:
        """Delete the file."""
        self._folder.cleanup()


def timing_of(told: Any, wanted: int) -> Timing:
    """The JSON output of fio as the time for ``wanted`` bytes. Latencies are in nanoseconds, from a call to its return."""
    read = told["jobs"][0]["read"]
    return Timing(wanted / read["bw_bytes"], read["lat_ns"]["mean"] / 1e9)


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
    """Fill ``place``. Raises ConnectionError if the other side closes before."""
    done = 0
    while done < place.nbytes:
        got = connection.recv_into(place[done:])
        if got == 0:
            raise ConnectionError(f"the connection was closed after {done:,} of {place.nbytes:,} bytes")
        done += got


class SocketLimit:
    """Asks a process of its own for bytes, with one connection per thread. Close it."""

    name = "bare socket"

    def __init__(self, largest: int) -> None:
        """Start it. Raises StoreUnavailable."""
        command = [sys.executable, "-c", _SERVER, str(largest)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self._process.stdout.readline() if self._process.stdout else ""
        if not said.strip().isdigit():
            self.close()
            raise StoreUnavailable("the process that answers the bare sockets did not start; --no-limit skips it")
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
