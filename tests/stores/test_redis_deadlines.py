"""How long a Redis server can hold a load or a lookup up, and that a reply which is no value is no read."""

import asyncio
import socketserver
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest
from redis_running import Server

from harness.core.errors import DeadlineMissed, ReadFailures, StoreUnavailable
from harness.stores import open_store
from harness.stores.base import GRACE_S, Read, Store
from harness.testing.faulty_proxy import Behaviour, FaultyProxy
from harness.testing.stores import pattern

SIZE = 200_000

Reader = Callable[[Store, list[Read]], None]


def blocking(store: Store, reads: list[Read]) -> None:
    store.read(reads)


def on_a_loop(store: Store, reads: list[Read]) -> None:
    asyncio.run(store.aread(reads))


both = pytest.mark.parametrize("read", [blocking, on_a_loop])


@contextmanager
def answering(answer: Callable[[list[bytes]], bytes | None]) -> Iterator[int]:
    """The port of a server that gives ``answer`` to a command's words, and +PONG where that is None."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError, ValueError):
                while line := self.rfile.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        size = int(self.rfile.readline()[1:])
                        words.append(self.rfile.read(size + 2)[:-2])
                    self.wfile.write(answer(words) or b"+PONG\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@both
@pytest.mark.parametrize("behaviour", ["never", "trickle", "slow"])
def test_a_load_ends_at_its_deadline_whatever_the_server_does(server: Server, read: Reader, behaviour: Behaviour) -> None:
    """Of 64 chunks with a hung server each call took its own time-out; and a byte now and then held a call up for ever."""
    with FaultyProxy(server.port) as proxy, open_store(f"redis://127.0.0.1:{proxy.port}?timeout_s=0.4") as store:
        store.write("key", [pattern(SIZE)])
        proxy.behaviour = behaviour
        start = time.monotonic()
        deadline = start + 0.6
        late = 0
        while time.monotonic() < deadline:
            out = bytearray(SIZE)
            try:
                read(store, [Read("key", 0, (memoryview(out),), deadline)])
            except ReadFailures as error:
                assert isinstance(error.failures[0], StoreUnavailable)
                late += isinstance(error.failures[0], DeadlineMissed)
            else:
                assert out == pattern(SIZE)
        assert time.monotonic() - deadline < GRACE_S
        assert late or behaviour == "slow"
        proxy.behaviour = "pass"
        out = bytearray(SIZE)
        read(store, [Read("key", 0, (memoryview(out),), time.monotonic() + 60)])
        assert out == pattern(SIZE)


def test_a_lookup_ends_in_its_time_out_whatever_the_server_does(server: Server) -> None:
    with FaultyProxy(server.port) as proxy, open_store(f"redis://127.0.0.1:{proxy.port}?timeout_s=0.3") as store:
        for behaviour in ("never", "trickle"):
            proxy.behaviour = behaviour
            start = time.monotonic()
            with suppress(StoreUnavailable):
                store.exists([f"key-{number}" for number in range(64)])
            assert time.monotonic() - start < 0.3 + GRACE_S


@both
def test_what_the_server_is_asked_after_a_short_reply_has_the_deadline_too(server: Server, read: Reader) -> None:
    with FaultyProxy(server.port) as proxy, open_store(f"redis://127.0.0.1:{proxy.port}?timeout_s=60") as store:
        store.write("short", [b"1234"])
        assert store.size("short") == 4  # so that redis-py has a connection
        real = store._wires.carry_out  # type: ignore[attr-defined]

        def then_silent(*args: object) -> object:
            broken = real(*args)
            proxy.behaviour = "never"
            return broken

        async def then_silent_on_a_loop(*args: object) -> object:
            return await asyncio.to_thread(then_silent, *args)

        store._wires.carry_out = then_silent  # type: ignore[attr-defined]
        store._loop_wires.carry_out = then_silent_on_a_loop  # type: ignore[attr-defined]
        start = time.monotonic()
        with pytest.raises(ReadFailures) as caught:
            read(store, [Read("short", 0, (memoryview(bytearray(10)),), start + 0.3)])
        assert isinstance(caught.value.failures[0], DeadlineMissed)
        assert time.monotonic() - start < 0.3 + GRACE_S


@both
def test_a_number_in_place_of_a_value_is_no_read(read: Reader) -> None:
    with answering(lambda words: b":%d\r\n" % SIZE if words[0] == b"GETRANGE" else None) as port:
        store = open_store(f"redis://127.0.0.1:{port}?timeout_s=1")
        reads = [Read("key", 0, (memoryview(bytearray(SIZE)),))]
        with pytest.raises(ReadFailures, match="does not speak Redis' protocol: a reply of b':200000' came in place"):
            read(store, reads)
        store.close()
