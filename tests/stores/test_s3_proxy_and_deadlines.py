"""What stands between us and an S3 server: a proxy of the environment's, and a network that holds a load up."""

import asyncio
import time
from collections.abc import Callable

import pytest
from s3_running import BUCKET, Server
from servers import free_port

from harness.core.errors import DeadlineMissed, ReadFailures, StoreUnavailable
from harness.stores import open_store
from harness.stores.base import GRACE_S, Read, Store
from harness.stores.s3.address import is_loopback, place_of
from harness.testing.faulty_proxy import Behaviour, FaultyProxy
from harness.testing.stores import fetch, pattern

pytestmark = pytest.mark.usefixtures("login")

SIZE = 1 << 20
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_loopback_goes_past_the_proxy(s3: Server, no_proxy: pytest.MonkeyPatch, variable: str) -> None:
    """A proxy that doesn't exist: whoever asks it gets nothing."""
    no_proxy.setenv(variable, f"http://user:hunter2@127.0.0.1:{free_port()}")
    with open_store(s3.fresh("&retries=0")) as store:
        store.write("key", [b"data"])
        assert fetch(store, "key", 0, 4) == [b"data"]
        assert store.notes == ()
        store.delete(["key"])


def test_a_proxy_on_the_way_is_told_in_notes_and_errors_without_its_password(no_proxy: pytest.MonkeyPatch) -> None:
    port = free_port()
    no_proxy.setenv("HTTP_PROXY", f"http://user:hunter2@127.0.0.1:{port}/")
    with pytest.raises(StoreUnavailable, match=f"at http://nowhere.invalid:9000 through the proxy 127.0.0.1:{port}:") as caught:
        open_store(f"s3://{BUCKET}/x?endpoint=http://nowhere.invalid:9000&retries=0&timeout_s=2")
    assert "hunter2" not in str(caught.value)


def test_a_proxy_that_works_is_a_note(no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("HTTP_PROXY", "http://ann:hunter2@proxy.invalid:3128")
    no_proxy.setattr("obstore.list", lambda *_, **__: iter(()))
    with open_store(f"s3://{BUCKET}/x?endpoint=http://server.invalid:9000") as store:
        assert store.notes == (
            "requests to http://server.invalid:9000 go through the proxy proxy.invalid:3128, which HTTP_PROXY or the like names",
        )


def test_no_proxy_is_heeded(no_proxy: pytest.MonkeyPatch) -> None:
    from urllib.parse import urlsplit

    url = urlsplit("s3://bucket/p")
    no_proxy.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert place_of(url, "https://store.example").proxy == "proxy:3128"
    assert place_of(url, "").proxy == "proxy:3128"  # Amazon's own
    assert place_of(url, "http://store.example").proxy == ""
    no_proxy.setenv("NO_PROXY", "store.example,.amazonaws.com")
    assert place_of(url, "https://store.example").proxy == ""
    assert place_of(url, "").proxy == ""


@pytest.mark.parametrize(
    ("endpoint", "loopback"),
    [
        ("http://127.0.0.1:9000", True),
        ("http://127.3.2.1", True),
        ("https://localhost:9000", True),
        ("http://minio.localhost", True),
        ("http://[::1]:9000", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example", False),
        ("", False),
    ],
)
def test_what_loopback_is(endpoint: str, loopback: bool) -> None:
    assert is_loopback(endpoint) is loopback


def blocking(store: Store, reads: list[Read]) -> None:
    store.read(reads)


def on_a_loop(store: Store, reads: list[Read]) -> None:
    asyncio.run(store.aread(reads))


@pytest.mark.parametrize("read", [blocking, on_a_loop])
@pytest.mark.parametrize("behaviour", ["never", "trickle", "slow"])
def test_a_load_ends_at_its_deadline_whatever_the_server_does(
    s3: Server, read: Callable[[Store, list[Read]], None], behaviour: Behaviour
) -> None:
    with FaultyProxy(s3.port) as proxy, open_store(s3.fresh("&timeout_s=5", proxy.port)) as store:
        store.write_many([("one", [pattern(SIZE)]), ("two", [pattern(SIZE, 1)])])
        proxy.behaviour = behaviour
        start = time.monotonic()
        deadline = start + 0.6
        late = 0
        while time.monotonic() < deadline:
            out = [bytearray(SIZE), bytearray(SIZE)]
            failed = {}
            try:
                read(store, [Read(key, 0, (memoryview(to),), deadline) for key, to in zip(("one", "two"), out, strict=True)])
            except ReadFailures as error:
                failed = error.failures
                assert all(isinstance(failure, DeadlineMissed) for failure in failed.values())
                late += len(failed)
            assert all(out[place] == pattern(SIZE, place) for place in range(2) if place not in failed)
        assert time.monotonic() - deadline < GRACE_S
        assert late or behaviour == "slow"
        written = [bytes(to) for to in out]
        proxy.behaviour = "pass"
        time.sleep(0.3)
        assert [bytes(to) for to in out] == written  # nothing arrives afterwards
        read(store, [Read("one", 0, (memoryview(out[0]),), time.monotonic() + 60)])
        assert out[0] == pattern(SIZE)
