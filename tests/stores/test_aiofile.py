"""``aiofile://``: the conformance suite, and that aiofiles does the reading."""

import asyncio
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import ChunkMissing, ChunkTruncated, ReadFailures, SetupError, StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.base import Read
from harness.testing.stores import StoreTests, fetch, pattern


class TestAioFile(StoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"aiofile://{tmp_path}/with%20space"


class TestAioFileWithItsOwnPool(StoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"aiofile://{tmp_path}/kv?threads=3"


def test_file_stores_read_what_it_writes_and_the_other_way_round(tmp_path: Path) -> None:
    with open_store(f"aiofile://{tmp_path}") as ours, open_store(f"file://{tmp_path}") as plain:
        ours.write("a", [pattern(5000)])
        plain.write("b", [pattern(5000, 1)])
        assert fetch(plain, "a", 0, 5000) == [pattern(5000)]
        assert fetch(ours, "b", 100, 50) == [pattern(5000, 1)[100:150]]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_aiofiles_reads_in_its_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool) -> None:
    import aiofiles

    opened: list[tuple[str, str]] = []

    def watched(opener: Callable[[str, int], int], path: str, flags: int) -> int:
        opened.append((path, threading.current_thread().name))
        return opener(path, flags)

    real: Any = aiofiles.open
    monkeypatch.setattr(aiofiles, "open", lambda *args, opener, **more: real(*args, **more, opener=partial(watched, opener)))
    with open_store(f"aiofile://{tmp_path}?threads=2") as store:
        store.write("key", [pattern(1000)])
        out = bytearray(1000)
        reads = [Read("key", 0, (memoryview(out),))]
        if asynchronous:
            asyncio.run(store.aread(reads))
        else:
            store.read(reads)
    assert out == pattern(1000)
    assert [(Path(path).name, name.rpartition("_")[0]) for path, name in opened] == [("key.kv", "aiofile")]


def test_threads_end_with_the_store_and_no_file_stays_open(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    files = len(list(Path("/proc/self/fd").iterdir()))
    with open_store(f"aiofile://{tmp_path}?threads=2") as store:
        store.write("key", [pattern(1000)])
        fetch(store, "key", 0, 1000)
        with pytest.raises(ChunkTruncated):
            fetch(store, "key", 0, 1001)
        with pytest.raises(ChunkMissing):
            fetch(store, "absent", 0, 1)
        store.close()
    assert set(threading.enumerate()) == before
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_unreadable_object_fails_alone(tmp_path: Path) -> None:
    with open_store(f"aiofile://{tmp_path}") as store:
        store.write("good", [b"data"])
        (tmp_path / "ba").mkdir()
        (tmp_path / "ba/bad.kv").mkdir()
        out = [bytearray(4), bytearray(4)]
        with pytest.raises(ReadFailures) as caught:
            store.read([Read("bad", 0, (memoryview(out[0]),)), Read("good", 0, (memoryview(out[1]),))])
    assert set(caught.value.failures) == {0}
    assert isinstance(caught.value.failures[0], StoreUnavailable)
    assert out[1] == b"data"


def test_wrong_keys_addresses_and_options(tmp_path: Path) -> None:
    with open_store(f"aiofile://{tmp_path}") as store, pytest.raises(UsageError, match="is no key"):
        store.read([Read("../up", 0, (memoryview(bytearray(1)),))])
    with pytest.raises(UsageError, match="names no directory; write aiofile:///absolute/path"):
        open_store("aiofile://relative/path")
    with pytest.raises(UsageError, match="option of store 'aiofile' 'direct'; known: shared, threads, timeout_s"):
        open_store(f"aiofile://{tmp_path}?direct=1")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiofiles", None)
    with pytest.raises(SetupError, match="pip install 'aiofiles>=24'"):
        open_store(f"aiofile://{tmp_path}")
