"""What can be wrong with a Redis server, at the start and while serving: each a named error, and nothing hangs."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest
from cutting_proxy import CuttingProxy
from redis_running import PASSWORD, Server, redis_server, self_signed
from servers import free_port

from harness.core.errors import ChunkMissing, ReadFailures, SetupError, StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.base import Read, Store
from harness.testing.stores import fetch, pattern

SIZE = 200_000
FRAME = len(b"$200000\r\n" + b"\r\n")  # what Redis sends around a value

Reader = Callable[[Store, list[Read]], None]


def blocking(store: Store, reads: list[Read]) -> None:
    store.read(reads)


def on_a_loop(store: Store, reads: list[Read]) -> None:
    asyncio.run(store.aread(reads))


both = pytest.mark.parametrize("read", [blocking, on_a_loop])


def batch(*keys: str) -> tuple[list[bytearray], list[Read]]:
    out = [bytearray(SIZE) for _ in keys]
    return out, [Read(key, 0, (memoryview(part),)) for key, part in zip(keys, out, strict=True)]


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that a test may kill."""
    with redis_server() as running:
        yield running


class TestOpening:
    def refusal(self, url: str, kind: type[Exception] | tuple[type[Exception], ...] = UsageError) -> str:
        with pytest.raises(kind) as caught:
            open_store(url)
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("who", [":hunter2@", "ann:hunter2@"])
    def test_wrong_password(self, who: str, tls_url: str) -> None:
        address = tls_url.rpartition("@")[2]
        assert "refuses the user or the password; put the right one into TTFT_REDIS" in self.refusal(f"rediss://{who}{address}")

    def test_no_password(self, tls_url: str) -> None:
        assert "wants a password; " in self.refusal(f"rediss://{tls_url.rpartition('@')[2]}")

    def test_password_from_the_environment(self, tls_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TTFT_REDIS_PASSWORD", PASSWORD)
        with open_store(f"rediss://{tls_url.rpartition('@')[2]}") as store:
            assert store.exists(["absent"]) == 0

    def test_password_where_there_is_none(self, server: Server) -> None:
        said = self.refusal(f"redis://:hunter2@127.0.0.1:{server.port}/0")
        assert "has no password, but one was given; " in said

    def test_no_such_database(self, server: Server) -> None:
        said = self.refusal(f"redis://127.0.0.1:{server.port}/9999")
        assert f"the redis server at 127.0.0.1:{server.port} has no database 9999; " in said

    def test_nothing_listens(self) -> None:
        port = free_port()
        said = self.refusal(f"redis://127.0.0.1:{port}", StoreUnavailable)
        assert f"127.0.0.1:{port} is not there: nothing listens" in said

    def test_no_such_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "create_connection", unknown)
        assert "there is no host 'nowhere.invalid'" in self.refusal("redis://nowhere.invalid")

    def test_a_server_that_never_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}?timeout_s=0.1"
            assert "did not answer within 0.1 s; " in self.refusal(url, StoreUnavailable)

    @pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$99\r\n", b":none\r\n", b"x" * 5000])
    def test_what_is_no_redis(self, greeting: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:

            def greet() -> None:
                with other.accept()[0] as client:
                    client.sendall(greeting)
                    with suppress(OSError):
                        client.recv(100)

            thread = Thread(target=greet)
            thread.start()
            said = self.refusal(f"redis://127.0.0.1:{other.getsockname()[1]}", StoreUnavailable)
            thread.join()
        assert "does not speak Redis' protocol" in said

    def test_cluster_and_single_server_are_told_apart(self, server: Server, cluster: list[Server]) -> None:
        assert "is a node of a cluster; write redis+cluster://" in self.refusal(f"redis://127.0.0.1:{cluster[0].port}")
        assert "is no cluster; write redis:// without +cluster" in self.refusal(f"redis+cluster://127.0.0.1:{server.port}")
        assert "has only database 0, not 3" in self.refusal(f"redis+cluster://127.0.0.1:{cluster[0].port}/3")

    def test_a_certificate_of_nobody_we_trust(self, tls_url: str, tmp_path: Path) -> None:
        for ca in ("", f"?ca={self_signed(tmp_path)[0]}"):
            assert "has a certificate that is not trusted here" in self.refusal(tls_url.partition("?")[0] + ca)

    def test_a_certificate_of_another_host(self, tls_url: str) -> None:
        assert "has a certificate for other names than 'localhost'" in self.refusal(tls_url.replace("127.0.0.1", "localhost"))

    def test_a_server_that_wants_a_certificate_of_ours(self, tmp_path: Path) -> None:
        certificate, key = self_signed(tmp_path)
        port, ours = free_port(), tmp_path / "client.pem"
        ours.write_bytes(certificate.read_bytes() + key.read_bytes())
        files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
        with redis_server("--tls-port", str(port), *files, "--tls-auth-clients", "yes"):
            url = f"rediss://127.0.0.1:{port}?ca={certificate}"
            assert "wants a certificate of ours" in self.refusal(url, (UsageError, StoreUnavailable))  # by an alert, or an end
            with open_store(f"{url}&client_cert={ours}") as store:
                store.write("key", [b"data"])
                assert fetch(store, "key", 0, 4) == [b"data"]
            for wrong in (tmp_path / "absent.pem", certificate):
                assert f"client_cert={wrong} holds no certificate with" in self.refusal(f"{url}&client_cert={wrong}")

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_an_authority_that_is_none(self, content: str | None, tmp_path: Path) -> None:
        if content:
            (tmp_path / "ca.pem").write_text(content)
        assert "is no file of certificates" in self.refusal(f"rediss://127.0.0.1?ca={tmp_path}/ca.pem")

    def test_tls_on_one_side_only(self, server: Server, tls_url: str) -> None:
        clear = f"redis://{tls_url.partition('@')[2].partition('?')[0]}"
        assert "wants TLS (rediss://)" in self.refusal(clear, StoreUnavailable)
        said = self.refusal(f"rediss://127.0.0.1:{server.port}?timeout_s=0.1", StoreUnavailable)
        assert "see whether it is alive and speaks TLS" in said  # it waits for the end of a line, and so do we

    def test_without_the_package(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        assert "pip install 'redis>=6.4'" in self.refusal(server.url, SetupError)

    @pytest.mark.parametrize(
        "address",
        [
            "", "/0", ":6379", "host:port", "host:0", "host:99999", "host/zero", "host/0/1", "host#1", "a..b", "x" * 70,
            ":hunter2/@host", ":hunter2?@host", "ann:hunter2#@host", ":hunter2@", ":pass?hunter2@host",
        ],
    )  # fmt: skip
    def test_no_address(self, address: str) -> None:
        assert "no address of a Redis server; write redis://user:password@host:port/database" in self.refusal(
            f"redis://{address}"
        )

    def test_unknown_variant_and_options(self) -> None:
        assert "; write one of redis://, redis+cluster://, redis+sentinel://, redis+unix://" in self.refusal("redis+rdma://host")
        assert "known: connections, db, prefix, timeout_s" in self.refusal("redis://host?ca=/x")
        assert "prefix='' is invalid" in self.refusal("redis://host?prefix=")
        assert "timeout_s='0' is invalid" in self.refusal("redis://host?timeout_s=0")


class TestServing:
    @both
    def test_a_killed_server_fails_every_read_and_its_successor_serves(self, read: Reader) -> None:
        port = free_port()
        with redis_server(port=port) as first:
            store = open_store(first.url)
            store.write("key", [pattern(SIZE)])
            out, reads = batch("key", "key")
            read(store, reads)
        with pytest.raises(ReadFailures) as caught:
            read(store, reads)
        assert {type(error) for error in caught.value.failures.values()} == {StoreUnavailable}
        assert set(caught.value.failures) == {0, 1}
        assert "cannot read object key: the redis server at" in str(caught.value)
        with pytest.raises(StoreUnavailable):
            store.exists(["key"])
        with pytest.raises(StoreUnavailable):
            store.write("key", [b"x"])
        with redis_server(port=port):
            with pytest.raises(ReadFailures) as caught:
                read(store, reads)
            assert {type(error) for error in caught.value.failures.values()} == {ChunkMissing}
            store.write("key", [pattern(SIZE, 2)])
            read(store, reads)
            store.close()
        assert out == [pattern(SIZE, 2)] * 2

    def test_a_loop_outlives_a_restart_of_the_server(self) -> None:
        port = free_port()
        out, reads = batch("key")

        async def through_both(store: Store) -> None:
            for seed in range(2):
                with redis_server(port=port):
                    store.write("key", [pattern(SIZE, seed)])
                    await store.aread(reads)
                    assert out[0] == pattern(SIZE, seed)

        with redis_server(port=port):
            store = open_store(f"redis://127.0.0.1:{port}")
        with store:
            asyncio.run(through_both(store))

    @both
    @pytest.mark.parametrize("cut_after", [1, 7, SIZE // 2, SIZE + 9, SIZE + 11, SIZE + 20])
    def test_a_connection_that_ends_in_the_middle(self, server: Server, read: Reader, cut_after: int) -> None:
        keys = [f"cut-{uuid4().hex}" for _ in range(3)]
        with CuttingProxy(server.port) as proxy, open_store(f"redis://127.0.0.1:{proxy.port}") as store:
            store.write_many((key, [pattern(SIZE, seed)]) for seed, key in enumerate(keys))
            out, reads = batch(*keys)
            if read is blocking:
                read(store, reads)  # so that there is a connection
            greeting = b"" if read is blocking else b"+PONG\r\n"  # a new loop connects
            proxy.cut_after = len(greeting) + cut_after
            with pytest.raises(ReadFailures, match="closed the connection") as caught:
                read(store, reads)
            failed = set(caught.value.failures)
            assert failed == {position for position in range(3) if cut_after < (position + 1) * (SIZE + FRAME)}
            assert all(out[position] == pattern(SIZE, position) for position in range(3) if position not in failed)
            read(store, reads)
            assert out == [pattern(SIZE, seed) for seed in range(3)]
            store.delete(keys)

    @both
    def test_a_server_that_stops_answering_is_a_time_out(self, own: Server, read: Reader) -> None:
        with open_store(f"{own.url}?timeout_s=0.5") as store:
            store.write("key", [pattern(SIZE)])
            out, reads = batch("key")
            own.process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(ReadFailures, match=r"did not answer within 0\.5 s"):
                    read(store, reads)
                with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.5 s"):
                    store.exists(["key"])
            finally:
                own.process.send_signal(signal.SIGCONT)
            read(store, reads)
            assert out[0] == pattern(SIZE)

    @both
    def test_a_key_of_another_type(self, server: Server, read: Reader) -> None:
        key = f"list-{uuid4().hex}"
        server.say("RPUSH", f"ttft:{key}", "x", expect="1")
        with open_store(server.url) as store:
            _, reads = batch(key)
            with pytest.raises(ReadFailures, match=rf"{key}: .* keeps something else than a string .*prefix="):
                read(store, reads)
            store.delete([key])

    def test_a_full_server(self) -> None:
        with redis_server("--maxmemory", "12mb") as small, open_store(small.url) as store:
            store.write("key", [pattern(SIZE)])
            with pytest.raises(StoreUnavailable, match="is full "):
                store.write_many((f"key-{number}", [pattern(1 << 20)]) for number in range(16))
            assert fetch(store, "key", 0, SIZE) == [pattern(SIZE)]

    def test_an_object_that_redis_cannot_hold(self, server: Server) -> None:
        with open_store(server.url) as store, pytest.raises(StoreUnavailable, match="huge has 537919488 bytes, and Redis takes"):
            store.write("huge", [memoryview(bytes(1 << 20))] * 513)

    def test_a_user_without_rights(self, server: Server) -> None:
        server.say("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection")
        with open_store(f"redis://reader:secret@127.0.0.1:{server.port}") as store:
            assert store.exists(["absent"]) == 0
            with pytest.raises(StoreUnavailable, match="does not let this user do that"):
                store.write("key", [b"x"])

    @both
    def test_a_node_that_stops_fails_its_own_keys_only(self, cluster: list[Server], read: Reader) -> None:
        # Some for every node; with random names one time in 130 none would be the third node's.
        keys = [f"node-{number}-{read.__name__}" for number in range(12)]
        with open_store(f"redis+cluster://127.0.0.1:{cluster[0].port}?timeout_s=0.5") as store:
            store.write_many((key, [pattern(SIZE, seed)]) for seed, key in enumerate(keys))
            out, reads = batch(*keys)
            cluster[2].process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(ReadFailures, match=rf"127\.0\.0\.1:{cluster[2].port} did not answer") as caught:
                    read(store, reads)
            finally:
                cluster[2].process.send_signal(signal.SIGCONT)
            failed = set(caught.value.failures)
            assert 0 < len(failed) < 12
            assert all(out[position] == pattern(SIZE, position) for position in range(12) if position not in failed)
            read(store, reads)
            assert out == [pattern(SIZE, seed) for seed in range(12)]
            store.delete(keys)
