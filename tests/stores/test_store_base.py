"""URLs of stores: what is shown of them, and what is said of wrong ones. And the defaults of the contract."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import ReadFailures, StoreUnavailable, UsageError
from harness.core.text import redact
from harness.stores import STORES, open_store
from harness.stores.base import Read, check_store, each_read, unsplit


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("file:///tmp/kv", "file:///tmp/kv"),
        ("shaped+file:///tmp/kv?latency_ms=2&seed=0", "shaped+file:///tmp/kv?latency_ms=2&seed=0"),
        ("redis://ann:hunter2@host:6379/0", "redis://ann:***@host:6379/0"),
        ("redis://:hunter2@[::1]:6379/0?db=1", "redis://:***@[::1]:6379/0?db=1"),
        ("redis://ann@host/0", "redis://ann@host/0"),
        ("redis://ann:hun@ter2@host/0", "redis://ann:***@host/0"),
        ("shaped+redis://ann:hunter2@Host:no-port", "shaped+redis://ann:***@Host:no-port"),
        ("s3://b/p?password=hunter2&region=eu", "s3://b/p?password=***&region=eu"),
        ("s3://b?token=hunter2", "s3://b?token=***"),
        ("s3://b?x=1&secret=hunter2", "s3://b?x=1&secret=***"),
        ("s3://b?key=hunter2", "s3://b?key=***"),
        ("s3://b?aws_secret_access_key=hunter2&AccessKeyId=hunter2", "s3://b?aws_secret_access_key=***&AccessKeyId=***"),
        ("s3://b?pass%77ord=hunter2", "s3://b?pass%77ord=***"),
        ("s3://b?token=hun#ter2", "s3://b?token=***"),
        ("s3://b?token", "s3://b?token"),
        ("redis:ann:hunter2@host", "redis:***@host"),
        ("file:///a@b/kv:1@2", "file:///a@b/kv:1@2"),
        ("s3://ann:hun/t@er2@host/p", "s3://ann:***@host/p"),
        ("mooncake://h:1?metadata=http://m:8080/metadata?token=hunter2", "mooncake://h:1?metadata=http://m:8080/metadata?token=***"),
        ("mooncake://h:1?metadata=http%3A//m/%3Fkey%3Dhunter2&parallel=2", "mooncake://h:1?metadata=http://m/?key=***&parallel=2"),
        ("mooncake://h:1?metadata=etcd%3A//ann:hunter2%40m", "mooncake://h:1?metadata=etcd://ann:***@m"),
        ("s3://b?endpoint=http://m:9000&region=eu", "s3://b?endpoint=http://m:9000&region=eu"),
    ],
)  # fmt: skip
def test_secrets_are_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(st.text(max_size=40), st.text("abcXYZ0189@:/?&=+.", max_size=40))
def test_any_text_can_be_shown_and_showing_twice_changes_nothing(text: str, url: str) -> None:
    for value in (text, f"redis://{url}"):
        assert redact(redact(value)) == redact(value)


@pytest.mark.parametrize("url", ["file:///tmp/kv", "shaped+file:///tmp/kv?a=1&b=%20", "mem://Name", "s3://b/p?x=1#f"])
def test_split_urls_can_be_joined_again(url: str) -> None:
    assert unsplit(urlsplit(url)) == url


def test_unknown_stores_list_the_known() -> None:
    with pytest.raises(UsageError, match=r"unknown store 'fille' \(did you mean 'file'\?\); known: .*file.*mem.*shaped"):
        open_store("fille:///tmp/kv")


@pytest.mark.parametrize("url", ["", "/tmp/kv", "file", "file:/tmp/kv", "://x", "redis://[::1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a store URL"):
        open_store(url)


def test_wrong_urls_are_quoted_without_their_secrets() -> None:
    for url in (
        "file://ann:hunter2@host/kv",
        "mem://ann:hunter2@x",
        "redis://ann:hunter2@[::1",
        "shaped://a:hunter2@h",
    ):
        with pytest.raises(UsageError) as caught:
            open_store(url)
        assert "hunter2" not in str(caught.value)
        assert "***" in str(caught.value)


def test_checking_a_url_opens_and_creates_nothing(tmp_path: Path) -> None:
    check_store(f"shaped+file://{tmp_path}/not/yet?latency_ms=2&direct=1")
    check_store("shaped+redis://nobody.invalid:6379/0?latency_ms=2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file://", "names no directory"),
        ("file://host/kv", "names no directory"),
        ("aiofile:///", "names no directory"),
        ("gds://here", "names no directory"),
        ("nixl://", "names no directory"),
        ("shaped+file://?latency_ms=1", "names no directory"),
        ("file+cluster:///tmp/kv", "there is no store 'file.cluster'; write file://"),
        ("mem://a/b", "names no memory store"),
        ("shaped+mem://", "names no memory store"),
        ("s3://", "is no bucket"),
        ("s3://bucket/p?endpoint=nowhere", "endpoint"),
        ("redis+sentry://host", "there is no store 'redis.sentry'"),
        ("redis+sentinel://host", "no address of Redis sentinels"),
        ("redis+unix://host", "no address of a Unix socket"),
        ("redis://host?db=1", "db=1 is for redis.unix://"),
        ("redis://host:port", "no address of a Redis server"),
        ("mooncake://", "names no Mooncake master"),
    ],
)
def test_a_wrong_address_is_refused_by_reading_it(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hunter2?x=1&x=2@h",
        "shaped+redis://u:p?hunter2@h",
        "shaped+redis://u:x?latency_ms=hunter2@h",
        "redis://u:x?timeout_s=hunter2@h",
        "s3://u:x?token=hunter2@h",
        "mooncake://h:1?metadata=http%3A//ann:hunter2%40m/metadata",
        "mooncake://h:1?metadata=http%3A//m/%3Ftoken%3Dhunter2%40x",
        "s3://b/p?endpoint=http%3A//ann:hunter2%40m",
    ],
)
def test_a_password_that_looks_like_options_is_quoted_nowhere(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_store(url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in redact(url)


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="option 'direct' is listed twice"):
        open_store("file:///tmp/kv?direct=0&direct=1")


def test_every_option_of_every_store_is_described() -> None:
    for name, store in STORES.all().items():
        for option, info in store.Options.model_fields.items():
            assert info.description, f"{name}: {option}"


def test_each_read_goes_on_after_a_failure() -> None:
    seen = []

    def one(item: Read) -> None:
        seen.append(item.key)
        if item.key in "bd":
            raise StoreUnavailable(f"{item.key} is down")

    with pytest.raises(ReadFailures, match="2 of the reads failed, the first with: b is down") as caught:
        each_read([Read(key, 0, ()) for key in "abcd"], one)
    assert seen == ["a", "b", "c", "d"]
    assert list(caught.value.failures) == [1, 3]
