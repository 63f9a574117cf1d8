"""What can go wrong with ``s3://``: each ends in a named error at the opening or in a failed read, and nothing hangs."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pytest
from cutting_proxy import CuttingProxy
from s3_running import BUCKET, Server, s3_server, told
from servers import free_port

from harness.core.errors import ChunkMissing, ChunkTruncated, ReadFailures, StoreError, StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.base import Read, Store
from harness.stores.s3.address import Place
from harness.stores.s3.errors import explain
from harness.testing.stores import fetch, pattern

pytestmark = pytest.mark.usefixtures("login")

SIZE = 1 << 20


@pytest.fixture
def mortal() -> Iterator[Server]:
    """A server of this test's own, which it may stop and kill."""
    with s3_server() as running:
        yield running


def by_read(store: Store, reads: list[Read]) -> None:
    store.read(reads)


def by_aread(store: Store, reads: list[Read]) -> None:
    asyncio.run(store.aread(reads))


both_ways = pytest.mark.parametrize("read", [by_read, by_aread])
Way = Callable[[Store, list[Read]], None]


def failures(store: Store, read: Way, *keys: str, size: int = SIZE) -> dict[int, StoreError]:
    with pytest.raises(ReadFailures) as caught:
        read(store, [Read(key, 0, (memoryview(bytearray(size)),)) for key in keys])
    for error in caught.value.failures.values():
        told(error)
    return caught.value.failures


class TestOpening:
    def refused(self, url: str, message: str) -> None:
        with pytest.raises(StoreUnavailable, match=message) as caught:
            open_store(url)
        assert url.partition("?")[0] in told(caught.value)

    def test_no_such_bucket(self, s3: Server) -> None:
        self.refused(s3.fresh().replace(BUCKET, "other-bucket"), "there is no such bucket; make it first, or name another")

    def test_nobody_there(self) -> None:
        url = f"s3://{BUCKET}/x?endpoint=http://127.0.0.1:{free_port()}&retries=0"
        self.refused(url, "at http://127.0.0.1.*nothing listens there; start the server, or correct endpoint=")

    def test_no_such_host(self) -> None:
        self.refused(f"s3://{BUCKET}/x?endpoint=http://nowhere.invalid:9000&retries=0", "there is no host of that name")

    def test_credentials_that_the_server_does_not_know(self, s3: Server) -> None:
        with s3.checking_credentials():
            self.refused(s3.fresh(), r"refuses the credentials .*\(HTTP 403 InvalidAccessKeyId\); set AWS_ACCESS_KEY_ID")
        open_store(s3.fresh()).close()

    def test_a_server_that_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"s3://{BUCKET}/x?endpoint=http://127.0.0.1:{silent.getsockname()[1]}&timeout_s=0.2"
            self.refused(url, r"did not answer within 0.2 s; see whether it is alive, or raise timeout_s=")

    def test_tls_where_the_server_has_none(self, s3: Server) -> None:
        url = s3.fresh("&retries=0").replace("http://", "https://")
        self.refused(url, r"it speaks something else there; correct endpoint= \(http or https\?\)")

    def test_what_answers_is_no_s3_server(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            thread = threading.Thread(target=answer, args=(other, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
            thread.start()
            url = f"s3://{BUCKET}/x?endpoint=http://127.0.0.1:{other.getsockname()[1]}&retries=0"
            self.refused(url, r"knows no such place \(HTTP 404\); see whether endpoint= names an S3 server")
            thread.join()


def answer(listener: socket.socket, reply: bytes) -> None:
    """Take one request and say ``reply``."""
    with listener.accept()[0] as connection:
        connection.recv(65536)
        connection.sendall(reply)


@both_ways
def test_deleted_between_lookup_and_read(s3: Server, read: Way) -> None:
    with open_store(s3.fresh()) as store:
        store.write_many([("kept", [b"1" * SIZE]), ("gone", [b"2" * SIZE])])
        assert store.exists(["kept", "gone"]) == 2
        store.delete(["gone"])
        failed = failures(store, read, "kept", "gone")
        assert {place: type(error) for place, error in failed.items()} == {1: ChunkMissing}
        store.delete(["kept"])


@both_ways
def test_replaced_by_something_shorter(s3: Server, read: Way) -> None:
    url = s3.fresh()
    with open_store(url) as store:
        store.write("chunk", [pattern(SIZE)])
        obstore.put(s3.bucket(), url.partition(BUCKET + "/")[2].partition("?")[0] + "/chunk.kv", b"something else")
        failed = failures(store, read, "chunk")
        assert {place: type(error) for place, error in failed.items()} == {0: ChunkTruncated}
        assert "ends at or before byte 14" in str(failed[0])
        store.delete(["chunk"])


@both_ways
def test_bucket_deleted_while_serving(s3: Server, read: Way) -> None:
    s3.tell("short-lived", "PUT")
    with open_store(s3.fresh().replace(BUCKET, "short-lived")) as store:
        s3.tell("short-lived", "DELETE")
        failed = failures(store, read, "key")
        assert isinstance(failed[0], StoreUnavailable)
        assert "there is no such bucket" in str(failed[0])
        with pytest.raises(StoreUnavailable, match=r"cannot write object key .*there is no such bucket"):
            store.write("key", [b"data"])


@both_ways
def test_rights_lost_while_serving(s3: Server, read: Way) -> None:
    with open_store(s3.fresh()) as store:
        store.write("key", [b"data"])
        with s3.checking_credentials():
            failed = failures(store, read, "key")
            assert "cannot read object key" in str(failed[0])
            assert "HTTP 403" in str(failed[0])
            for do in (lambda: store.exists(["key"]), lambda: store.write("key", [b"x"]), lambda: list(store.keys())):
                with pytest.raises(StoreUnavailable, match="refuses the credentials") as caught:
                    do()
                told(caught.value)
        assert fetch(store, "key", 0, 4) == [b"data"]


@both_ways
def test_connection_cut_in_the_middle_of_a_body(s3: Server, read: Way) -> None:
    """Without retries the read fails and says so; with them it is taken up where it broke off."""
    with CuttingProxy(s3.port) as proxy:
        with open_store(s3.fresh("&retries=0", proxy.port)) as store:
            store.write("chunk", [pattern(SIZE)])
            proxy.cut_after = SIZE // 2
            failed = failures(store, read, "chunk")
            assert isinstance(failed[0], StoreUnavailable)
            assert "the connection broke off; see whether the server is alive" in str(failed[0])
            store.delete(["chunk"])
        with open_store(s3.fresh("&retries=1", proxy.port)) as store:
            store.write("chunk", [pattern(SIZE)])
            out = bytearray(SIZE)
            proxy.cut_after = SIZE // 2
            read(store, [Read("chunk", 0, (memoryview(out),))])
            assert proxy.cut_after is None
            assert out == pattern(SIZE)
            store.delete(["chunk"])


def test_server_that_stops_answering_then_dies(mortal: Server) -> None:
    with open_store(mortal.fresh("&timeout_s=0.3")) as store:
        store.write_many([("one", [pattern(SIZE)]), ("two", [pattern(SIZE)])])
        os.kill(mortal.process.pid, signal.SIGSTOP)
        begin = time.monotonic()
        for read in (by_read, by_aread):
            failed = failures(store, read, "one", "two")
            assert len(failed) == 2
            assert all("did not answer within 0.3 s" in str(error) for error in failed.values())
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
            store.exists(["one", "two"])
        assert time.monotonic() - begin < 60  # each is done after its time-out, not after the server's return
        os.kill(mortal.process.pid, signal.SIGCONT)

        some = threading.Event()
        ended: list[BaseException] = []

        def read_until_it_fails() -> None:
            out = memoryview(bytearray(SIZE))
            try:
                while True:
                    store.read([Read(key, 0, (out[: SIZE // 2],)) for key in ("one", "two")])
                    some.set()
            except BaseException as error:  # noqa: BLE001  looked at below
                ended.append(error)

        reader = threading.Thread(target=read_until_it_fails)
        reader.start()
        assert some.wait(20)
        mortal.process.kill()
        reader.join(20)
        assert not reader.is_alive()
        (error,) = ended
        assert isinstance(error, ReadFailures)
        assert {type(item) for item in error.failures.values()} == {StoreUnavailable}
        with pytest.raises(StoreUnavailable, match="nothing listens there"):
            store.exists(["one"])


def test_certificate_of_an_own_authority(tmp_path: Path) -> None:
    with s3_server(tls=True) as server:
        url = server.fresh("&retries=0")
        with pytest.raises(StoreUnavailable, match=r"its certificate is not trusted here; name the file .* ca=/path/to/ca.pem"):
            open_store(url)
        with open_store(f"{url}&ca={server.authority}") as store:
            store.write("key", [b"data"])
            assert fetch(store, "key", 0, 4) == [b"data"]
        with pytest.raises(UsageError, match=f"ca={tmp_path}/absent.pem is no file of certificates: No such file"):
            open_store(f"{url}&ca={tmp_path}/absent.pem")
        for content in ("something else", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            (tmp_path / "wrong.pem").write_text(content)
            with pytest.raises(UsageError, match=f"ca={tmp_path}/wrong.pem holds no certificate; name a PEM file"):
                open_store(f"{url}&ca={tmp_path}/wrong.pem")


_FORKED = """
import os, sys
from harness.core.errors import SetupError
from harness.stores import open_store
url = sys.argv[1]
store = open_store(url)
if os.fork() == 0:
    for use in (lambda: store.exists(["key"]), lambda: open_store(url)):
        try:
            use()
        except SetupError as error:
            print(error)
    sys.stdout.flush()
    os._exit(0)
os.wait()
store.close()
"""


def test_forked_process_is_told_what_it_lacks(s3: Server) -> None:
    """obstore's threads are not there after a fork: whoever asked them would wait for ever."""
    command = [sys.executable, "-c", _FORKED, s3.fresh()]
    child = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert child.stdout.count("let processes be spawned: VLLM_WORKER_MULTIPROC_METHOD=spawn") == 2


class TestExplaining:
    """Replies that no server here gives."""

    def explained(self, text: str) -> str:
        return told(explain("read object k", Place("bucket", "p", ""), OSError(text), 3.0))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("non-2xx status code: 503 Slow Down: <Error><Code>SlowDown</Code>", r"too busy (HTTP 503 SlowDown); try later"),
            ("non-2xx status code: 500 Internal Server Error: ", "the server failed (HTTP 500); look into its log"),
            ("Received redirect without LOCATION, this normally indicates an incorrectly configured region", "in another region"),
            (
                "status code: 400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>",
                "see whether region= is that of the bucket",
            ),
            ("non-2xx status code: 409 Conflict: <Code>OperationAborted</Code>", "refused (HTTP 409 OperationAborted)"),
            ("invalid peer certificate: UnknownIssuer", "its certificate is not trusted here"),
            ("something quite new", "OSError; see whether endpoint= names an S3 server"),
        ],
    )
    def test_has_a_fix_for_each(self, text: str, message: str) -> None:
        assert message in self.explained(text)

    def test_takes_nothing_else_over_from_a_reply(self) -> None:
        """A server that refuses a signature repeats what was signed, and whose it was."""
        text = (
            "non-2xx status code: 403 Forbidden: <Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIANEVERSEEN</AWSAccessKeyId>"
        )
        message = self.explained(text + "\n<StringToSign>s3cret-begins</StringToSign>")
        assert "(HTTP 403 SignatureDoesNotMatch)" in message
        assert "at Amazon S3" in message
