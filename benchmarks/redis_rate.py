"""How near the redis store comes to a bare socket, and how far ahead of Redis' own client for Python it is.

    python benchmarks/redis_rate.py [--rounds 9] [--total-mib 24]

All sides read the same values of one local server over one connection into the same memory, in turns. The bare
socket sends GETRANGE and receives into place, knowing beforehand what comes; one value at a time, and all
asked for at once: the better of the two counts. Values in parts are scattered as into a paged KV cache.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import redis

from harness.stores._bench.limits import receive
from harness.stores.base import Read, Store, open_store
from harness.stores.redis.protocol import command

KIB = 1024
VALUES = (64 * KIB, 512 * KIB, 2048 * KIB, 12288 * KIB)
PART = 64 * KIB
PREFIX = "ttft-rate:"


@dataclass(frozen=True)
class Task:
    """Values of one size, and the memory they go to."""

    size: int
    names: tuple[str, ...]
    memory: tuple[memoryview, ...]

    def reads(self, part: int) -> list[Read]:
        return [
            Read(name, 0, tuple(place[begin : begin + part] for begin in range(0, self.size, part)))
            for name, place in zip(self.names, self.memory, strict=True)
        ]


class Bare:
    """A socket, and no more than what the protocol needs."""

    def __init__(self, port: int, task: Task) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.commands = [command("GETRANGE", PREFIX + name, 0, task.size - 1) for name in task.names]
        self.head = memoryview(bytearray(len(b"$%d\r\n" % task.size)))
        self.end = memoryview(bytearray(2))
        self.places = task.memory

    def all_at_once(self) -> None:
        self.socket.sendall(b"".join(self.commands))
        for place in self.places:
            self._reply(place)

    def one_by_one(self) -> None:
        for text, place in zip(self.commands, self.places, strict=True):
            self.socket.sendall(text)
            self._reply(place)

    def _reply(self, place: memoryview) -> None:
        for target in (self.head, place, self.end):
            receive(self.socket, target)


def client_reads(client: "redis.Redis", task: Task) -> None:
    """What a user of redis-py writes."""
    pipe = client.pipeline(transaction=False)
    for name in task.names:
        pipe.getrange(PREFIX + name, 0, task.size - 1)
    for place, value in zip(task.memory, pipe.execute(), strict=True):
        place[:] = value


def sides_of(port: int, task: Task, store: Store, loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[], object]]:
    bare = Bare(port, task)
    whole, parts = task.reads(task.size), task.reads(PART)
    return {
        "bare, one by one": bare.one_by_one,
        "bare, all at once": bare.all_at_once,
        "redis-py": partial(client_reads, redis.Redis(port=port), task),
        "read": lambda: store.read(whole),
        "read, parts": lambda: store.read(parts),
        "aread": lambda: loop.run_until_complete(store.aread(whole)),
        "aread, parts": lambda: loop.run_until_complete(store.aread(parts)),
    }


def rates(sides: dict[str, Callable[[], object]], size: int, rounds: int) -> dict[str, float]:
    """Median GB/s of each side; rounds alternate in direction, the first does not count."""
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        order: Sequence[str] = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            begin = time.perf_counter()
            sides[name]()
            seen[name].append(size / (time.perf_counter() - begin) / 1e9)
    return {name: statistics.median(values[1:]) for name, values in seen.items()}


def measure(port: int, rounds: int, total: int) -> None:
    loop = asyncio.new_event_loop()
    rng = np.random.default_rng(0)
    print(f"GB/s, median of {rounds}; in brackets the ratio to the better bare socket")
    with open_store(f"redis://127.0.0.1:{port}?prefix={PREFIX}") as store:
        for size in VALUES:
            names = tuple(f"{size}-{number}" for number in range(max(total // size, 2)))
            data = rng.bytes(size)
            store.write_many((name, [data]) for name in names)
            task = Task(size, names, tuple(memoryview(bytearray(size)) for _ in names))
            found = rates(sides_of(port, task, store, loop), size * len(names), rounds)
            if any(place != data for place in task.memory):
                raise SystemExit("what was read is not what was written")
            best = max(found["bare, one by one"], found["bare, all at once"])
            print(f"{len(names)} values of {size // KIB} KiB")
            for name, rate in found.items():
                print(f"  {name:18} {rate:6.2f} ({rate / best:.2f})")
            store.delete(names)
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--total-mib", type=int, default=24, help="MiB a round, of each value size")
    arguments = parser.parse_args()
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        server = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            _wait(port)
            measure(port, arguments.rounds, arguments.total_mib << 20)
        finally:
            server.kill()
            server.wait()


def _wait(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    sys.exit("redis-server does not start")


if __name__ == "__main__":
    main()
