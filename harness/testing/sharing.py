"""The part of the conformance suite of stores that is about sharing: threads, event loops, processes."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from harness.errors import ChunkMissing, ReadFailures
from harness.stores.base import Read, Store, open_store

_READ_IN_CHILD = """
import sys
from harness.stores.base import Read, open_store
url, key, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_store(url) as store:
    out = bytearray(size)
    store.read([Read(key, 0, (memoryview(out),))])
    store.write("from-child", [bytes(reversed(out))])
print(out.hex())
"""


def pattern(size: int, seed: int = 0) -> bytes:
    """``size`` bytes that look random and are the same each time."""
    return np.random.default_rng(seed).bytes(size)


def fetch(store: Store, key: str, offset: int, *sizes: int) -> list[bytes]:
    """Read from ``offset`` on into new buffers of these ``sizes``. Raises the read's own error."""
    out = [bytearray(size) for size in sizes]
    try:
        store.read([Read(key, offset, tuple(map(memoryview, out)))])
    except ReadFailures as error:
        raise error.failures[0] from None
    return [bytes(part) for part in out]


class SharingTests:
    """What a store promises to those who share it. Comes with StoreTests."""

    def test_readers_see_whole_objects_while_writers_replace_them(self, store: Store) -> None:
        """Publishing is atomic, with three writers and two readers of one key."""
        size = 40_000
        store.write("busy", [b"\0" * size])
        stop = threading.Event()

        def write(value: int) -> None:
            for _ in range(15):
                store.write("busy", [bytes([value]) * 1000] * (size // 1000))

        def read() -> set[int]:
            kinds = set()
            while not stop.is_set():
                kinds.add(len(set(fetch(store, "busy", 0, size)[0])))
            return kinds

        with ThreadPoolExecutor(5) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            writers = [pool.submit(write, value) for value in (1, 2, 3)]
            try:
                for writer in writers:
                    writer.result()
            finally:
                stop.set()
            assert [reader.result() for reader in readers] == [{1}, {1}]
        assert list(store.keys()) == ["busy"]

    def test_many_threads_write_and_read(self, store: Store) -> None:
        """A store is shared by threads without a lock."""

        def turn(number: int) -> list[bytes]:
            store.write(f"thread-{number}", [pattern(30_000, number)])
            return fetch(store, f"thread-{number}", 0, 10_000, 20_000)

        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(turn, range(24)))
        assert [b"".join(parts) for parts in got] == [pattern(30_000, number) for number in range(24)]
        assert store.exists([f"thread-{number}" for number in range(24)]) == 24

    def test_aread_runs_concurrently_and_fails_like_read(self, store: Store) -> None:
        """Many in flight on one event loop."""
        for number in range(8):
            store.write(f"async-{number}", [pattern(10_000, number)])
        out = [bytearray(10_000) for _ in range(9)]

        async def read(number: int) -> None:
            await store.aread([Read(f"async-{number}", 0, (memoryview(out[number]),))])

        async def all_of_them() -> list[BaseException | None]:
            return await asyncio.gather(*(read(number) for number in range(9)), return_exceptions=True)

        results = asyncio.run(all_of_them())
        assert results[:8] == [None] * 8
        failure = results[8]
        assert isinstance(failure, ReadFailures)
        assert isinstance(failure.failures[0], ChunkMissing)
        assert out[:8] == [pattern(10_000, number) for number in range(8)]

    def test_another_process_sees_the_objects(self, store: Store, url: str) -> None:
        """And the first process sees what the other one wrote."""
        data = pattern(5000)
        store.write("shared", [data])
        command = [sys.executable, "-c", _READ_IN_CHILD, url, "shared", "5000"]
        child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert child.returncode == 0, child.stderr  # the store's library may have written a line there
        assert bytes.fromhex(child.stdout) == data
        assert fetch(store, "from-child", 0, 5000) == [data[::-1]]

    def test_data_outlives_the_store_and_closing_twice_is_safe(self, store: Store, url: str) -> None:
        """Objects stay when a store is closed."""
        with open_store(url) as first:
            first.write("outlives", [b"data"])
            first.close()
        assert fetch(store, "outlives", 0, 4) == [b"data"]
