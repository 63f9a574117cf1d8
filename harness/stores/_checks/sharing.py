"""Checks of several callers: threads, event loops, processes, and a store that is opened again."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from harness.core.errors import ChunkMissing, ReadFailures
from harness.stores._checks.expecting import Broken, expect, expect_bytes, fetch, pattern, same
from harness.stores.base import Read
from harness.stores.scoped import Scoped

CHILD_S = 60
"""Seconds that another process may take."""

# The URL may hold a password, and everybody can see a process's arguments.
_READ_IN_CHILD = """
import sys
from harness.stores.base import Read, open_store
url, key, size, answer = sys.stdin.read().split("\\n")
with open_store(url) as store:
    out = bytearray(int(size))
    store.read([Read(key, 0, (memoryview(out),))])
    store.write(answer, [bytes(reversed(out))])
print(out.hex())
"""


def readers_see_whole_objects_while_writers_replace_them(store: Scoped) -> None:
    """Publishing is atomic, with three writers and two readers of one key."""
    size = 40_000
    store.write("busy", [b"\0" * size])
    stop = threading.Event()

    def write(value: int) -> None:
        for _ in range(15):
            store.write("busy", [bytes([value]) * 1000] * (size // 1000))

    def read() -> int:
        most = 0
        while not stop.is_set():
            most = max(most, len(set(fetch(store, "busy", 0, size)[0])))
        return most

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(write, value) for value in (1, 2, 3)]
        _finish(writers, stop)
        most = max(reader.result() for reader in readers)
    expect(most == 1, f"a reader saw an object made of {most} writes; each has to be published as a whole")


def readers_see_all_of_a_new_object_or_nothing(store: Scoped) -> None:
    """What is being written for the first time is missing or whole, never short."""
    keys = [f"new-{number}" for number in range(15)]
    data = pattern(200_000)
    stop = threading.Event()

    def write() -> None:
        for key in keys:
            store.write(key, [data[:70_000], data[70_000:]])

    def read() -> None:
        for key in keys:
            while True:
                over = stop.is_set()
                try:
                    same(fetch(store, key, 0, len(data))[0], data, key)
                except ChunkMissing:
                    if over:
                        raise Broken(f"'{key}' is missing though it was written") from None
                else:
                    break

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        _finish([pool.submit(write)], stop)
        for reader in readers:
            reader.result()


def _finish(writers: "list[Future[None]]", stop: threading.Event) -> None:
    """Wait for the writers, and let the readers end whatever happens: also on Ctrl-C."""
    try:
        for writer in writers:
            writer.result()
    finally:
        stop.set()


def threads_share_a_store(store: Scoped) -> None:
    """Without a lock of their own."""
    data = [pattern(30_000, number) for number in range(24)]

    def turn(number: int) -> bytes:
        store.write(f"thread-{number}", [data[number]])
        return b"".join(fetch(store, f"thread-{number}", 0, 10_000, 20_000))

    with ThreadPoolExecutor(8) as pool:
        for number, got in enumerate(pool.map(turn, range(24))):
            same(got, data[number], f"thread-{number}")
    found = store.exists([f"thread-{number}" for number in range(24)])
    expect(found == 24, f"of 24 objects that threads wrote, exists finds {found}")


def areads_are_in_flight_together_and_fail_like_reads(store: Scoped) -> None:
    """Many on one event loop, one of them of a missing object."""
    data = [pattern(10_000, number) for number in range(8)]
    for number in range(8):
        store.write(f"async-{number}", [data[number]])
    out = [bytearray(10_000) for _ in range(9)]

    async def all_of_them() -> list[BaseException | None]:
        reads = ([Read(f"async-{number}", 0, (memoryview(out[number]),))] for number in range(9))
        return await asyncio.gather(*map(store.aread, reads), return_exceptions=True)

    *good, bad = asyncio.run(all_of_them())
    failed = next((error for error in good if error is not None), None)
    expect(failed is None, f"an aread of an object that is there failed: {type(failed).__name__}: {failed}")
    found = bad.failures.get(0) if isinstance(bad, ReadFailures) else bad
    expect(isinstance(bad, ReadFailures), f"an aread of a missing object should raise ReadFailures, not {found!r}")
    expect(isinstance(found, ChunkMissing), f"an aread of a missing object fails with {found!r}, not ChunkMissing")
    for number in range(8):
        same(out[number], data[number], f"async-{number}")


def several_event_loops_read_at_once(store: Scoped) -> None:
    """Each in a thread of its own, and one loop after another in the same thread."""
    data = pattern(60_000)
    store.write("looped", [data])

    async def some() -> list[bytearray]:
        out = [bytearray(len(data)) for _ in range(6)]
        await asyncio.gather(*(store.aread([Read("looped", 0, (memoryview(part),))]) for part in out))
        return out

    def turn(_: int) -> list[bytearray]:
        return [part for _ in range(2) for part in asyncio.run(some())]

    with ThreadPoolExecutor(3) as pool:
        for parts in pool.map(turn, range(3)):
            for part in parts:
                same(part, data, "looped")


def another_process_sees_the_objects(store: Scoped) -> None:
    """And the first process sees what the other one wrote."""
    data = pattern(5000)
    store.write("shared", [data])
    store.written.add("from-child")
    given = "\n".join((store.address, store.prefix + "shared", str(len(data)), store.prefix + "from-child"))
    command = [sys.executable, "-c", _READ_IN_CHILD]
    try:
        child = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=CHILD_S)
    except subprocess.TimeoutExpired:
        raise Broken(f"another process has not read and written an object within {CHILD_S} s") from None
    last = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
    expect(child.returncode == 0, f"another process could not read and write (exit status {child.returncode}): {last}")
    same(bytes.fromhex(child.stdout), data, "shared")
    expect_bytes(store, "from-child", data[::-1])


def objects_outlive_the_store(store: Scoped) -> None:
    """Objects stay when a store is closed; closing twice is safe."""
    first = store.again()
    store.written.add("outlives")
    try:
        first.write("outlives", [b"data"])
    finally:
        first.close()
        first.close()
    expect_bytes(store, "outlives", b"data")
    with store.again() as second:
        expect_bytes(second, "outlives", b"data")
        expect(second.exists(["outlives"]) == 1, "a store that was opened again does not find the object")
