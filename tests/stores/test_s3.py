"""``s3://`` against a real server: the conformance suite, and what it does not ask. What can go wrong: test_s3_faults.py."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
from cutting_proxy import CuttingProxy
from s3_running import BUCKET, IDENTITY, LOGIN, SECRET, Server, told

from harness.core.errors import ReadFailures, SetupError, UsageError
from harness.stores import open_store
from harness.stores.base import Read
from harness.stores.s3.store import S3Store
from harness.testing.stores import StoreTests, fetch, pattern

pytestmark = pytest.mark.usefixtures("login")

MIB = 1 << 20


class TestS3(StoreTests):
    @pytest.fixture
    def url(self, s3: Server) -> str:
        return s3.fresh()


@pytest.fixture
def proxy(s3: Server) -> Iterator[CuttingProxy]:
    with CuttingProxy(s3.port) as proxy:
        yield proxy


def prefix_of(url: str) -> str:
    return urlsplit(url).path.strip("/")


def test_objects_lie_under_their_documented_names(s3: Server) -> None:
    url = s3.fresh()
    with open_store(url) as store:
        store.write("abc.DEF", [b"da", b"ta"])
        assert obstore.get(s3.bucket(), f"{prefix_of(url)}/abc.DEF.kv").bytes() == b"data"
        store.delete(["abc.DEF"])


def test_other_objects_of_the_bucket_are_not_ours(s3: Server) -> None:
    url = s3.fresh()
    with open_store(url) as store:
        store.write("ours", [b"data"])
        for name in ("README", "deeper/theirs.kv", "not a key.kv", ".kv"):
            obstore.put(s3.bucket(), f"{prefix_of(url)}/{name}", b"theirs")
        assert list(store.keys()) == ["ours"]
        assert store.exists(["README"]) == 0
    with open_store(url.replace(prefix_of(url), prefix_of(url) + "/deeper")) as deeper:
        assert list(deeper.keys()) == ["theirs"]


def test_a_store_may_be_a_whole_bucket(s3: Server) -> None:
    s3.tell("whole", "PUT")
    with open_store(f"s3://whole?endpoint={s3.endpoint}/&region=us-east-1") as store:
        store.write("key", [b"data"])
        assert obstore.get(s3.bucket("whole"), "key.kv").bytes() == b"data"
        assert list(store.keys()) == ["key"]
        store.delete(["key"])


def test_an_object_of_several_parts_comes_back(s3: Server) -> None:
    """Above 5 MiB obstore uploads in parts."""
    data = pattern(11 * MIB + 1)
    with open_store(s3.fresh()) as store:
        store.write("large", [data[: 7 * MIB], data[7 * MIB :]])
        assert store.size("large") == len(data)
        assert b"".join(fetch(store, "large", 5, 6 * MIB, 3 * MIB)) == data[5 : 9 * MIB + 5]
        store.delete(["large"])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_layer_is_read_without_the_rest_of_its_object(s3: Server, proxy: CuttingProxy, asynchronous: bool) -> None:
    data = pattern(4 * MIB)
    with open_store(s3.fresh(port=proxy.port)) as store:
        store.write("chunk", [data])
        out = [bytearray(100_000) for _ in range(3)]
        reads = [Read("chunk", place * MIB, (memoryview(part),)) for place, part in enumerate(out)]
        before = proxy.passed
        if asynchronous:
            asyncio.run(store.aread(reads))
        else:
            store.read(reads)
        assert [bytes(part) for part in out] == [data[place * MIB : place * MIB + 100_000] for place in range(3)]
        assert 300_000 <= proxy.passed - before < 310_000


def test_ranges_that_touch_are_one_request(s3: Server) -> None:
    """Seen from outside: the server's own log has one line for them."""
    with open_store(s3.fresh()) as store:
        store.write("chunk", [pattern(30_000)])
        out = [bytearray(10_000) for _ in range(3)]
        log = Path(f"/proc/{s3.process.pid}/cwd/server.log")
        before = log.read_text().count("GET ")
        store.read([Read("chunk", place * 10_000, (memoryview(out[place]),)) for place in (2, 0, 1)])
        assert b"".join(out) == pattern(30_000)
        assert log.read_text().count("GET ") - before == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_of_ranges_that_touch_only_those_past_the_end_fail(s3: Server, asynchronous: bool) -> None:
    with open_store(s3.fresh()) as store:
        store.write("short", [b"1" * 1000])
        out = [bytearray(500) for _ in range(4)]
        reads = [Read("short", place * 500, (memoryview(part),)) for place, part in enumerate(out)]
        with pytest.raises(ReadFailures) as caught:
            if asynchronous:
                asyncio.run(store.aread(reads))
            else:
                store.read(reads)
        assert sorted(caught.value.failures) == [2, 3]
        assert out[0] == out[1] == b"1" * 500


@pytest.mark.parametrize("concurrency", [1, 3])
def test_batches_may_be_larger_than_the_concurrency(s3: Server, concurrency: int) -> None:
    with open_store(s3.fresh(f"&concurrency={concurrency}")) as store:
        keys = [f"key-{number}" for number in range(8)]
        store.write_many((key, [key.encode()]) for key in keys)
        assert store.exists(keys) == 8
        assert store.exists([*keys[:7], "absent", keys[7]]) == 7
        out = [bytearray(5) for _ in keys]
        reads = [Read(key, 0, (memoryview(part),)) for key, part in zip(keys, out, strict=True)]
        store.read(reads)
        assert [part.decode() for part in out] == keys
        asyncio.run(store.aread(reads))
        store.delete(keys)


def test_publishing_what_is_absent_keeps_what_is_there(s3: Server) -> None:
    with open_store(s3.fresh("&if_absent=1")) as store:
        store.write_many([("once", [b"first"]), ("other", [b"new"])])
        store.write("once", [b"second, and longer"])
        assert store.size("once") == 5
        assert fetch(store, "once", 0, 5) == [b"first"]
        store.delete(["once", "other"])


class TestCredentials:
    """They come from the environment or AWS' files, never from a URL."""

    def test_profile_of_the_usual_file(self, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "credentials"
        lines = [f"{name.lower()} = {value}" for name, value in LOGIN.items()]
        file.write_text("\n".join(["[other]", *lines]))
        for name in LOGIN:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        monkeypatch.setenv("AWS_PROFILE", "other")
        with open_store(s3.fresh()) as store:
            store.write("key", [b"data"])
            assert fetch(store, "key", 0, 4) == [b"data"]
            store.delete(["key"])
        monkeypatch.setenv("AWS_PROFILE", "absent")
        with pytest.raises(UsageError, match=r"no credentials for an s3 store: .*\(absent\).*set AWS_ACCESS_KEY_ID") as caught:
            open_store(s3.fresh())
        told(caught.value)

    def test_none_at_all(self, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in LOGIN:
            monkeypatch.delenv(name)
        with pytest.raises(UsageError, match=r"no credentials for an s3 store: found none; set AWS_ACCESS_KEY_ID.*unsigned=1"):
            open_store(s3.fresh())
        with open_store(s3.fresh("&unsigned=1")) as store:
            assert list(store.keys()) == []

    @pytest.mark.parametrize(
        "url",
        [
            f"s3://user:{SECRET}@bucket/x",
            f"s3://{SECRET}@bucket/x",
            f"s3://bucket/x?secret_access_key={SECRET}",
            f"s3://bucket/x?aws_access_key_id={SECRET}",
            f"s3://bucket/x?session_token={SECRET}",
            f"s3://bucket/x?endpoint=http://user:{SECRET}@127.0.0.1:9000",
            f"shaped+s3://user:{SECRET}@bucket/x?latency_ms=1",
            f"shaped+s3://bucket/x?latency_ms=1&secret={SECRET}",
        ],
    )
    def test_in_a_url_they_are_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(UsageError) as caught:
            open_store(url)
        told(caught.value)
        if not url.startswith("shaped+s3://bucket"):
            assert "AWS_ACCESS_KEY_ID" in str(caught.value)

    def test_a_store_does_not_show_them(self, s3: Server) -> None:
        with open_store(s3.fresh()) as store:
            shown = json.dumps([store.url, repr(store), store.options.model_dump(), repr(vars(store))], default=str)
        assert SECRET not in shown


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("s3://", "'' is no bucket; write s3://bucket/prefix"),
            ("s3:///prefix", "'' is no bucket"),
            ("s3://127.0.0.1:9000/kv", r"name its server with \?endpoint=http://host:port"),
            (f"s3://{IDENTITY}:{SECRET}", "that is no bucket"),
            ("s3://bucket/a/../b", "is no prefix"),
            ("s3://bucket/a//b", "is no prefix"),
            ("s3://bucket/a%20b", "is no prefix"),
            ("s3://bucket/" + 801 * "a", "is no prefix"),
            ("s3://bucket/a#b", "is no bucket"),
            ("s3://bucket/a?endpoint=127.0.0.1:9000", "endpoint=127.0.0.1:9000 is no address of a server; write endpoint=http"),
            ("s3://bucket/a?endpoint=ftp://host", "is no address of a server"),
            ("s3://bucket/a?endpoint=http://", "is no address of a server"),
            ("s3://bucket/a?endpoint=http://a:b", "is no address of a server"),
            ("s3://bucket/a?endpoint=http://a b", "is no address of a server"),
            ("s3://bucket/a?endpoint=http://[::1", "is no address of a server"),
            ("s3://bucket/a?region=Not a region", "store 's3': region='Not a region' is invalid"),
            ("s3://bucket/a?timeout_s=0", "store 's3': timeout_s='0' is invalid"),
            ("s3://bucket/a?endpont=http://a", r"option of store 's3' 'endpont' \(did you mean 'endpoint'\?\)"),
        ],
    )
    def test_wrong_ones(self, url: str, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            open_store(url)
        told(caught.value)

    def test_the_url_wins_over_the_environment(self, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        with open_store(s3.fresh()) as store:
            assert list(store.keys()) == []

    def test_the_environment_serves_where_the_url_is_silent(self, s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
        with open_store(f"s3://{BUCKET}/silent") as store:
            assert list(store.keys()) == []


def test_without_obstore_the_package_is_named(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(SetupError, match=r"s3 stores need the package obstore; install it: pip install 'ttft\[s3\]'"):
        open_store(s3.fresh())


def test_without_boto3_the_package_is_named(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOGIN:
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "obstore.auth.boto3", None)
    with pytest.raises(SetupError, match=r"need the package boto3; install it: pip install 'ttft\[s3\]'"):
        open_store(s3.fresh())


def test_the_store_is_listed_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.stores import STORES

    monkeypatch.setitem(sys.modules, "obstore", None)
    assert STORES.get("s3") is S3Store
