"""``sealed+...``: the contract of stores, and that nobody without the secret can make or change an object."""

import itertools
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import ChunkCorrupt, ChunkInvalid, ChunkMissing, NotAChunk, StoreError, UsageError
from harness.stores import _seal, open_store
from harness.stores._seal import MAGIC, Sealer, seal_size
from harness.stores.base import Read, Store
from harness.stores.layered import Layered
from harness.testing.engine_loads import GEOMETRY, KEYS, whole_objects
from harness.testing.small_kv import chunk_object
from harness.testing.stores import StoreTests, fetch, pattern
from harness.testing.watched_store import WatchedStore

NAME, SECRET = "TTFT_TEST_SEAL", "a secret of some length"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, SECRET)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sealed+file://{tmp_path}/kv?seal=${NAME}"


class TestContract(StoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sealed+file://{tmp_path}/kv?seal={NAME}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as store:
        yield store


@pytest.fixture
def plain(url: str) -> Iterator[Store]:
    """The same objects, without the secret."""
    with open_store(url.removeprefix("sealed+").partition("?")[0]) as store:
        yield store


def raw(plain: Store, key: str) -> bytes:
    return b"".join(fetch(plain, key, 0, plain.size(key)))


def failure(store: Store, key: str, length: int = 100, offset: int = 0) -> Exception:
    with pytest.raises(StoreError) as found:
        fetch(store, key, offset, length)
    return found.value


@pytest.mark.parametrize("layered", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_any_byte_that_is_changed_fails_the_reads_that_touch_its_segment_and_no_others(
    url: str, plain: Store, layered: bool, kept: bool
) -> None:
    """Of a chunk, or of its layers' objects, with a seal in memory or without; padding of the seal aside, which says nothing."""
    with open_store(url) as opened:
        store = Layered(opened, GEOMETRY) if layered else opened
        store.write_many(whole_objects()[:1])
        key = KEYS[0]
        whole = chunk_object(GEOMETRY, key)
        cuts = [0, 4096, *(4096 + 8192 * layer for layer in range(1, GEOMETRY.layers + 1))]
        for name in list(plain.keys()):
            data = raw(plain, name)
            size = seal_size(name, memoryview(data))
            for position in (0, 9, 16, 24, 40, size, size + 4095, size + 4096, (size + len(data)) // 2, len(data) - 1):
                if kept:
                    assert fetch(store, key, 0, len(whole))[0] == whole
                else:
                    store.delete([])
                    opened._forget(name)  # type: ignore[attr-defined]
                bad = bytearray(data)
                bad[position] ^= 1
                plain.write(name, [bad])
                good = 0
                for begin, end in itertools.pairwise(cuts):
                    try:
                        assert fetch(store, key, begin, end - begin)[0] == whole[begin:end]
                        good += 1
                    except ChunkInvalid:
                        pass
                assert good < len(cuts) - 1 or (kept and position < size), (name, position)
                if size < position:
                    assert good >= 1
                plain.write(name, [data])
        assert fetch(store, key, 0, len(whole))[0] == whole


def test_another_secret_is_a_miss(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("key", [pattern(100)])
    monkeypatch.setenv(NAME, "another secret of that length")
    with open_store(url) as other:
        assert "was made with another secret" in str(failure(other, "key"))
        assert isinstance(failure(other, "key"), ChunkCorrupt)


def test_an_object_without_a_seal_is_a_miss_and_so_is_a_sealed_one_without_the_secret(store: Store, plain: Store) -> None:
    plain.write("plain", [pattern(10_000)])
    assert isinstance(failure(store, "plain"), NotAChunk)
    assert "is not sealed" in str(failure(store, "plain"))
    plain.write("short", [b"x"])
    assert isinstance(failure(store, "short"), ChunkInvalid)
    store.write("key", [chunk_object(GEOMETRY, KEYS[0])])
    assert not raw(plain, "key").startswith(b"TTFT-KV\0")


def test_a_seal_that_says_it_is_endless_takes_no_memory(store: Store, plain: Store) -> None:
    plain.write("endless", [struct.pack("<8sII", MAGIC, 2**32 - 1, 0), bytes(10_000)])
    tracemalloc.start()
    assert isinstance(failure(store, "endless"), NotAChunk)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_an_object_of_many_segments_has_a_longer_seal(store: Store, plain: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_seal, "SEGMENT", 10)
    data = pattern(3000)
    store.write("many", [data[:7], data[7:]])
    assert plain.size("many") == 8192 + 3000
    with open_store(store.url) as fresh:
        assert fetch(fresh, "many", 1234, 1000) == [data[1234:2234]]
        assert fresh.size("many") == 3000


def test_the_object_of_another_key_is_a_miss(store: Store, plain: Store) -> None:
    for key in ("one", "two"):
        store.write(key, [pattern(100)])
    plain.write("one", [raw(plain, "two")])
    assert isinstance(failure(store, "one"), ChunkCorrupt)


def test_what_replaces_an_object_is_read_although_its_seal_was_kept(store: Store, url: str) -> None:
    store.write("key", [pattern(100, seed=1)])
    assert fetch(store, "key", 0, 100) == [pattern(100, seed=1)]
    with open_store(url) as other:
        other.write("key", [pattern(5000, seed=2)])
    assert fetch(store, "key", 0, 5000) == [pattern(5000, seed=2)]
    with open_store(url) as other:
        other.write("key", [pattern(100, seed=3)])
    assert fetch(store, "key", 0, 100) == [pattern(100, seed=3)]
    with open_store(url) as other:
        other.delete(["key"])
    assert isinstance(failure(store, "key"), ChunkMissing)


def test_a_batch_asks_for_its_seals_once_and_by_its_deadline(store: Store) -> None:
    store.write_many(whole_objects())
    with open_store(store.url) as fresh:
        watched = fresh.inner = WatchedStore(fresh.inner)  # type: ignore[attr-defined]
        for calls in (2, 1):
            watched.calls.clear()
            fresh.read([Read(key, 4096, (memoryview(bytearray(8192)),), 1e12) for key in KEYS])
            assert [len(call.reads) for call in watched.calls] == [4] * calls
            assert {read.deadline for call in watched.calls for read in call.reads} == {1e12}


@pytest.mark.parametrize(
    ("value", "said"), [(None, "which is not set"), ("", "which is not set"), ("hunter2", "which has 7 characters")]
)
def test_a_secret_that_is_missing_or_short_is_one_sentence(
    url: str, monkeypatch: pytest.MonkeyPatch, value: str | None, said: str
) -> None:
    if value is None:
        monkeypatch.delenv(NAME)
    else:
        monkeypatch.setenv(NAME, value)
    with pytest.raises(UsageError, match=f"environment variable {NAME}, {said}; set it to 16") as found:
        open_store(url)
    assert not value or value not in str(found.value)


@pytest.mark.parametrize("query", ["", "?seal=", "?seal=$", "?seal=a-b"])
def test_a_seal_needs_the_name_of_a_variable(tmp_path: Path, query: str) -> None:
    with pytest.raises(UsageError, match="seal"):
        open_store(f"sealed+file://{tmp_path}/kv{query}")


@pytest.mark.parametrize("secret", ["0a1b2c3d4e5f60718293a4b5", "a0b1c2d3e4f5061728394a5b", "a secret-of-words-of-one"])
def test_a_secret_that_the_shell_put_into_the_url_is_not_repeated(tmp_path: Path, secret: str) -> None:
    with pytest.raises(UsageError, match="quote the URL") as found:
        open_store(f"sealed+file://{tmp_path}/kv?seal={secret}")
    assert secret not in str(found.value)
    # Nor where something else is wrong with the URL, and is said first.
    for wrong in ("file:/kv?", "file://host/kv?", "file://?", "file://[?", "mem://?", f"file:///kv?seal={secret}&"):
        with pytest.raises(UsageError) as found:
            open_store(f"sealed+{wrong}seal={secret}")
        assert secret not in str(found.value)


@given(sizes=st.lists(st.integers(0, 3000), max_size=5))
def test_a_seal_opens_for_its_maker_alone(sizes: list[int]) -> None:
    parts = [pattern(size, seed=size) for size in sizes]
    sealer = Sealer(SECRET)
    data = memoryview(sealer.seal("key", parts))
    seal = sealer.opened("key", data)
    assert (seal.size, seal.total) == (len(data), sum(sizes))
    for other, name in ((Sealer("another secret"), "key"), (sealer, "yek")):
        with pytest.raises(ChunkCorrupt):
            other.opened(name, data)
