"""``redis+sentinel://`` and ``redis+unix://`` against real servers: the conformance suite, a failover, and what can be wrong."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from redis_running import PASSWORD, PASSWORD_QUOTED, Sentinel, Server, redis_sentinel, redis_server, self_signed, wait_until
from servers import answers, free_port, require, started

from harness.core.errors import ChunkMissing, ReadFailures, StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.base import Read, Store
from harness.testing.stores import StoreTests, fetch, pattern

SIZE = 200_000


class TestRedisSentinel(StoreTests):
    @pytest.fixture
    def url(self, sentinel: Sentinel) -> str:
        return f"{sentinel.url}?prefix=test-{uuid4().hex}:"


class TestRedisUnix(StoreTests):
    @pytest.fixture
    def url(self, unix_url: str) -> str:
        return f"{unix_url}&prefix=test-{uuid4().hex}:"


def blocking(store: Store) -> bytes:
    out = bytearray(SIZE)
    store.read([Read("key", 0, (memoryview(out),))])
    return bytes(out)


def on_a_loop(store: Store) -> bytes:
    out = bytearray(SIZE)
    asyncio.run(store.aread([Read("key", 0, (memoryview(out),))]))
    return bytes(out)


Reader = Callable[[Store], bytes]


class TestFailover:
    @pytest.mark.parametrize("read", [blocking, on_a_loop])
    def test_a_killed_primary_fails_reads_until_the_new_one_answers(self, read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TTFT_REDIS_SENTINEL_PASSWORD", "hunter3")
        with redis_sentinel(PASSWORD, "hunter3") as group:
            url = group.url.replace("//", f"//:{PASSWORD_QUOTED}@")
            with open_store(f"{url}?timeout_s=2") as store:
                store.write("key", [pattern(SIZE)])
                assert read(store) == pattern(SIZE)
                assert [store.size("key"), list(store.keys())] == [SIZE, ["key"]]
                old, new = group.servers
                wait_until(lambda: new.says("EXISTS", "ttft:key", password=PASSWORD) == "1", "the replica does not follow")
                old.process.kill()
                sentences: list[str] = []
                until = time.monotonic() + 30
                while True:
                    try:
                        assert read(store) == pattern(SIZE)
                        break
                    except ReadFailures as error:
                        sentences.append(str(error))
                        assert time.monotonic() < until, sentences[-1]
                        time.sleep(0.05)
                assert group.primary() == new.port
                store.write("more", [b"data"])
                assert [store.exists(["key", "more"]), fetch(store, "more", 0, 4)] == [2, [b"data"]]
                store.delete(["key", "more"])
                assert isinstance(self.failure(read, store), ChunkMissing)
        assert sentences  # nobody answers while the sentinel has not noticed
        assert all("which is the primary 'mine' to its sentinels, " in sentence for sentence in sentences)
        assert not any("hunter" in sentence for sentence in sentences)

    @pytest.mark.parametrize("read", [blocking, on_a_loop])
    def test_a_primary_that_was_demoted_serves_no_more(self, read: Reader) -> None:
        """It answers as before, but what is written since is not there at once, and nothing can be written."""
        with redis_sentinel() as group, open_store(f"{group.url}?timeout_s=2") as store:
            store.write("key", [pattern(SIZE)])
            assert read(store) == pattern(SIZE)
            old, new = group.servers
            wait_until(lambda: new.says("EXISTS", "ttft:key") == "1", "the replica does not follow")
            with group.client() as client:
                client.sentinel_failover("mine")
            wait_until(lambda: group.primary() == new.port, "the sentinel does not fail over")
            old.say("REPLICAOF", "127.0.0.1", str(new.port))  # what the sentinel says too, some ten seconds later
            old.says("CLIENT", "KILL", "TYPE", "normal")
            served = 0
            until = time.monotonic() + 30
            while served < 3:  # the first reads may meet connections that the failover has closed
                assert time.monotonic() < until
                try:
                    assert read(store) == pattern(SIZE)
                    served += 1
                except ReadFailures:
                    served = 0
            before = old.misses(), new.misses()
            store.delete(["key"])
            assert isinstance(self.failure(read, store), ChunkMissing)
            assert old.misses() == before[0]
            assert new.misses() > before[1]

    @staticmethod
    def failure(read: Reader, store: Store) -> Exception:
        with pytest.raises(ReadFailures) as caught:
            read(store)
        return caught.value.failures[0]

    def test_a_lookup_and_a_write_find_the_new_primary_too(self) -> None:
        with redis_sentinel() as group, open_store(f"{group.url}?timeout_s=2") as store:
            store.write("key", [b"data"])
            old, new = group.servers
            wait_until(lambda: new.says("EXISTS", "ttft:key") == "1", "the replica does not follow")
            old.process.send_signal(signal.SIGSTOP)
            until = time.monotonic() + 30
            for use in (lambda: store.write("more", [b"data"]), lambda: store.exists(["key"])):
                while True:
                    try:
                        use()
                        break
                    except StoreUnavailable:
                        assert time.monotonic() < until
            assert store.exists(["key", "more"]) == 2


class TestOpening:
    def refusal(self, url: str, kind: type[Exception] = UsageError) -> str:
        with pytest.raises(kind) as caught:
            open_store(url)
        assert "hunter" not in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_a_primary_of_another_name(self, sentinel: Sentinel) -> None:
        said = self.refusal(sentinel.url.replace("mine", "yours"))
        assert f"the sentinel at 127.0.0.1:{sentinel.port} knows no primary 'yours'; write the name that stands" in said
        assert "(and no other sentinel helps)" in said

    def test_no_sentinel_answers(self) -> None:
        port = free_port()
        said = self.refusal(f"redis+sentinel://127.0.0.1:{port}/mine", StoreUnavailable)
        assert f"the sentinel at 127.0.0.1:{port} is not there: nothing listens at that port; start it" in said

    def test_a_server_and_a_sentinel_are_told_apart(self, sentinel: Sentinel, server: Server) -> None:
        assert "is no sentinel; name sentinels" in self.refusal(f"redis+sentinel://127.0.0.1:{server.port}/mine")
        assert "is a sentinel; write redis+sentinel://127.0.0.1:port/name" in self.refusal(f"redis://127.0.0.1:{sentinel.port}")

    def test_a_password_that_the_sentinel_does_not_want(self, sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TTFT_REDIS_SENTINEL_PASSWORD", "hunter2")
        assert "has no password, but one was given; unset TTFT_REDIS_SENTINEL_PASSWORD" in self.refusal(sentinel.url)

    @pytest.mark.parametrize(
        "address", ["", "host", "host/", "host:26379", "host:0/mine", "a,/mine", "a,b:c/mine", "host/mine/x", "host/mi ne",
                    "host/mine/0/1", "host/mine#1", ":hunter2/@host/mine", ":hunter2?@host/mine"],
    )  # fmt: skip
    def test_no_address_of_sentinels(self, address: str) -> None:
        said = self.refusal(f"redis+sentinel://{address}")
        assert "; write redis+sentinel://user:password@host:port,host:port/name-of-the-primary/database" in said

    @pytest.mark.parametrize("address", ["", "/", "host/run/redis.sock", ":hunter2@host/redis.sock", "/" + 107 * "x", "/a#b"])
    def test_no_address_of_a_socket(self, address: str) -> None:
        said = self.refusal(f"redis+unix://{address}")
        assert "no address of a Unix socket; write redis+unix://user:password@/path/to/redis.sock?db=0" in said

    def test_a_socket_that_is_not_there(self, tmp_path: Path) -> None:
        said = self.refusal(f"redis+unix://{tmp_path}/absent.sock", StoreUnavailable)
        assert f"the redis server at {tmp_path}/absent.sock is not there: there is no such socket; see 'unixsocket'" in said
        (tmp_path / "file").write_text("")
        assert "nothing listens on that socket" in self.refusal(f"redis+unix://{tmp_path}/file", StoreUnavailable)

    def test_database_and_password_of_a_socket(self, unix_url: str) -> None:
        assert "has no database 999; " in self.refusal(unix_url.replace("db=2", "db=999"))
        assert "wants a password; " in self.refusal(unix_url.replace(f":{PASSWORD_QUOTED}@", ""))

    def test_a_database_has_one_place_in_an_address(self) -> None:
        assert "db=3 is for redis+unix://; write the number behind the address: redis://host/3" in self.refusal("redis://h?db=3")

    def test_what_is_shown_has_no_password(self, unix_url: str) -> None:
        with open_store(unix_url) as store:
            assert "hunter2" not in f"{store.url} {store.options!r} {vars(store)!r}"


def test_sentinels_and_their_primary_by_tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    files = {"tls-cert-file": certificate, "tls-key-file": key, "tls-ca-cert-file": certificate, "tls-auth-clients": "no"}
    port, own = free_port(), free_port()
    lines = ["bind 127.0.0.1", "port 0", f"tls-port {own}", "tls-replication yes", f"sentinel monitor mine 127.0.0.1 {port} 1"]
    (tmp_path / "sentinel.conf").write_text("\n".join([*lines, *(f"{name} {value}" for name, value in files.items()), ""]))
    arguments = [word for name, value in files.items() for word in (f"--{name}", str(value))]
    program = require("redis-server", "redis-server")
    with (
        redis_server("--tls-port", str(port), *arguments),
        started([program, "sentinel.conf", "--sentinel"], tmp_path, lambda: answers(own)),
        open_store(f"rediss+sentinel://127.0.0.1:{own}/mine?ca={certificate}") as store,
    ):
        store.write("key", [b"data"])
        assert fetch(store, "key", 0, 4) == [b"data"]


def test_a_socket_can_be_shaped(unix_url: str) -> None:
    with open_store(f"shaped+{unix_url}&latency_ms=1&prefix=shaped:") as store:
        store.write("key", [b"data"])
        assert fetch(store, "key", 0, 4) == [b"data"]
        store.delete(["key"])
