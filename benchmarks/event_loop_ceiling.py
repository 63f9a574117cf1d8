"""How fast one event loop receives, and whether several, or threads, receive faster: from senders that Python does not slow down.

    python benchmarks/event_loop_ceiling.py [--rounds 15] [--connections 8] [--piece-kib 4096]

Each connection has a process of its own that answers a request by one sendfile from memory, so no byte passes through Python
at that end. The receiving process asks for a piece at a time on each connection, into memory that is there beforehand: by
event loops (BufferedProtocol, as the redis store does) or threads (recv_into). All ways take turns over the same connections.

Beside bytes a second, it prints bytes a second of the receivers' CPU time: what they would reach with a core for each of them
and senders that never let them wait. That is the ceiling of one loop, also where there are too few cores to reach it.
"""

import argparse
import asyncio
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from preadv import ratio

REQUEST = struct.Struct("!Q")


def serve(connection: socket.socket, source: int) -> None:
    """Answer requests until the connection ends; never returns."""
    while len(request := connection.recv(REQUEST.size, socket.MSG_WAITALL)) == REQUEST.size:
        (left,) = REQUEST.unpack(request)
        while left:
            left -= os.sendfile(connection.fileno(), source, 0, left)
    os._exit(0)


def connected(family: socket.AddressFamily, folder: Path, source: int, stack: ExitStack) -> socket.socket:
    """A connection with a sending process at its other end, which ends with it."""
    with socket.socket(family) as listener:
        listener.bind(str(folder / "socket") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listener.listen()
        ours = stack.enter_context(socket.socket(family))
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()
    if family == socket.AF_UNIX:
        (folder / "socket").unlink()
    child = os.fork()
    if child == 0:
        ours.close()
        serve(theirs, source)
    theirs.close()
    stack.callback(os.waitpid, child, 0)
    stack.callback(ours.shutdown, socket.SHUT_RDWR)
    return ours


@dataclass(frozen=True)
class Wire:
    connection: socket.socket
    memory: memoryview


class Receiver(asyncio.BufferedProtocol):
    """Fills its memory ``pieces`` times."""

    def __init__(self, memory: memoryview, pieces: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._memory, self._left, self._filled = memory, pieces, 0
        self._request = REQUEST.pack(memory.nbytes)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._memory[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == self._memory.nbytes:
            self._filled = 0
            self._left -= 1
            if self._left:
                self._transport.write(self._request)
            else:
                self._transport.pause_reading()
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError())


async def receive(wires: Sequence[Wire], pieces: int) -> None:
    loop = asyncio.get_running_loop()
    receivers = []
    for wire in wires:
        again = socket.socket(fileno=os.dup(wire.connection.fileno()))  # the transport closes its socket
        again.setblocking(False)
        _, receiver = await loop.create_connection(lambda memory=wire.memory: Receiver(memory, pieces), sock=again)  # type: ignore[misc]
        receivers.append(receiver)
    await asyncio.gather(*(receiver.done for receiver in receivers))
    for receiver in receivers:
        receiver._transport.close()


def loops(count: int) -> Callable[[Sequence[Wire], int], float]:
    def run(wires: Sequence[Wire], pieces: int) -> float:
        return in_threads([lambda mine=wires[k::count]: asyncio.run(receive(mine, pieces)) for k in range(count)])  # type: ignore[misc]

    return run


def threads(count: int) -> Callable[[Sequence[Wire], int], float]:
    def block(wires: Sequence[Wire], pieces: int) -> None:
        for wire in wires:
            wire.connection.setblocking(True)
        for _ in range(pieces):
            for wire in wires:
                wire.connection.sendall(REQUEST.pack(wire.memory.nbytes))
            for wire in wires:
                filled = 0
                while filled < wire.memory.nbytes:
                    filled += wire.connection.recv_into(wire.memory[filled:])

    def run(wires: Sequence[Wire], pieces: int) -> float:
        return in_threads([lambda mine=wires[k::count]: block(mine, pieces) for k in range(count)])  # type: ignore[misc]

    return run


def in_threads(work: Sequence[Callable[[], None]]) -> float:
    """Carry out each in a thread; returns the CPU seconds of the busiest."""
    start = threading.Barrier(len(work))

    def timed(one: Callable[[], None]) -> float:
        start.wait()
        begin = time.thread_time()
        one()
        return time.thread_time() - begin

    with ThreadPoolExecutor(len(work)) as pool:
        return max(pool.map(timed, work))


def measure(wires: Sequence[Wire], rounds: int, pieces: int) -> None:
    ways = {"1 loop": loops(1), "2 loops": loops(2), "4 loops": loops(4), "1 thread": threads(1), "2 threads": threads(2)}
    ways[f"{len(wires)} threads"] = threads(len(wires))
    size = pieces * sum(wire.memory.nbytes for wire in wires)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for number in range(rounds + 1):
        for name in rng.permutation(list(ways)):
            begin = time.perf_counter()
            cpu = ways[name](wires, pieces)
            if number:  # the first round does not count
                seconds[name].append(time.perf_counter() - begin)
                busy[name].append(cpu)
    print("| receivers | GB/s | over 1 loop | GB in a second of the busiest receiver's CPU time |")
    print("|---|---|---|---|")
    for name in ways:
        rate, ceiling = (size / float(np.median(values[name])) / 1e9 for values in (seconds, busy))
        middle, low, high = ratio(seconds["1 loop"], seconds[name])
        beside = "1" if name == "1 loop" else f"{middle:.2f} ({low:.2f} to {high:.2f})"
        print(f"| {name} | {rate:.2f} | {beside} | {ceiling:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--piece-kib", type=int, default=4096)
    parser.add_argument("--round-mib", type=int, default=256, help="received by each way in each round")
    options = parser.parse_args()
    piece = options.piece_kib << 10
    pieces = max((options.round_mib << 20) // (piece * options.connections), 1)
    source = os.memfd_create("ttft-sender")
    os.write(source, os.urandom(piece))
    for family, name in ((socket.AF_INET, "TCP on the loopback"), (socket.AF_UNIX, "Unix sockets")):
        with tempfile.TemporaryDirectory(prefix="ttft-loops-") as folder, ExitStack() as stack:
            wires = []
            for _ in range(options.connections):
                memory = np.zeros(piece, np.uint8)
                wires.append(Wire(connected(family, Path(folder), source, stack), memory.data))
            print(f"\n{name}: {options.connections} connections, pieces of {options.piece_kib} KiB, {os.cpu_count()} cores")
            measure(wires, options.rounds, pieces)
            if any(wire.memory != memoryview(os.pread(source, piece, 0)) for wire in wires):
                raise SystemExit("what was received is not what was sent")


if __name__ == "__main__":
    main()
