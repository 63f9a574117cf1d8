"""The proxy that breaks connections: how often, and that nothing of them stays."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from harness.testing.faulty_proxy import FaultyProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection, suppress(OSError):
                    while data := connection.recv(1000):
                        connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.close()


def answer(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"abcd")
        try:
            return client.recv(1000)
        except ConnectionResetError:
            return b"reset"


def test_a_share_of_the_replies_meets_a_fault_and_no_connection_stays(echo: int) -> None:
    with FaultyProxy(echo, share=0.5) as proxy:
        answers = [answer(proxy.port) for _ in range(30)]
        assert {b"abcd", b"ab", b"a", b"reset"} == set(answers)
        assert 5 < proxy.met < 25
        until = time.monotonic() + 20
        while proxy._open and time.monotonic() < until:
            time.sleep(0.01)
        assert not proxy._open


def test_without_a_share_none_does(echo: int) -> None:
    with FaultyProxy(echo) as proxy:
        assert {answer(proxy.port) for _ in range(10)} == {b"abcd"}
        assert proxy.met == 0
