"""Reads past the page cache: every alignment, the end of a file, file systems that can't. And dropping objects from it."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import ReadFailures, StoreUnavailable
from harness.stores import open_store
from harness.stores.base import Read, Store
from harness.stores.files.direct_io import PIECE, DirectReader
from harness.testing.stores import StoreTests, fetch, pattern


class TestDirectDisk(StoreTests):
    @pytest.fixture
    def url(self, direct_path: Path) -> str:
        return f"file://{direct_path}?direct=1"


class TestDirectReads:
    SIZE = PIECE + 3 * 4096

    @pytest.fixture
    def store(self, direct_path: Path) -> Store:
        store = open_store(f"file://{direct_path}?direct=1")
        store.write("object", [pattern(self.SIZE)])
        return store

    @pytest.mark.parametrize("shift", [0, 1, 64, 512])
    @pytest.mark.parametrize(("offset", "length"), [(0, SIZE), (4096, PIECE), (PIECE - 1, 2), (5, PIECE + 4096)])
    def test_memory_and_range_aligned_or_not(self, store: Store, shift: int, offset: int, length: int) -> None:
        memory = np.zeros(length + 8192, np.uint8)
        begin = -memory.ctypes.data % 4096 + shift
        half = length // 2 // 4096 * 4096
        store.read([Read("object", offset, (memory.data[begin : begin + half], memory.data[begin + half : begin + length]))])
        assert memory[begin : begin + length].tobytes() == pattern(self.SIZE)[offset : offset + length]
        assert not memory[:begin].any()
        assert not memory[begin + length :].any()

    def test_aligned_reads_make_no_copy(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(DirectReader, "_fill_through_buffer", None)
        memory = np.zeros(3 * 4096, np.uint8)
        begin = -memory.ctypes.data % 4096
        store.read([Read("object", 4096, (memory.data[begin : begin + 8192],))])
        assert memory[begin : begin + 8192].tobytes() == pattern(self.SIZE)[4096 : 3 * 4096]

    def test_only_the_parts_out_of_line_are_copied(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """As an engine reads a whole chunk: a header somewhere, then blocks of an aligned cache."""
        copied = []
        plain = DirectReader._fill_through_buffer

        def spy(reader: DirectReader, descriptor: int, parts: list[memoryview], offset: int) -> int:
            copied.append((offset, [part.nbytes for part in parts]))
            return plain(reader, descriptor, parts, offset)

        monkeypatch.setattr(DirectReader, "_fill_through_buffer", spy)
        memory = np.zeros(6 * 4096, np.uint8)
        page = -memory.ctypes.data % 4096
        header = memory.data[page + 1 : page + 4097]
        body = [memory.data[page + i * 4096 : page + (i + 1) * 4096] for i in (2, 3)]
        tail = memory.data[page + 4 * 4096 : page + 4 * 4096 + 10]
        store.read([Read("object", 0, (header, *body, tail))])
        assert b"".join((header, *body, tail)) == pattern(self.SIZE)[: 3 * 4096 + 10]
        assert copied == [(0, [4096]), (3 * 4096, [10])]

    def test_aligned_range_past_the_end(self, store: Store) -> None:
        memory = np.zeros(4 * 4096, np.uint8)
        page = -memory.ctypes.data % 4096
        store.write("odd", [pattern(5000)])
        with pytest.raises(ReadFailures, match="ends after 5000 bytes, 8192 were asked for"):
            store.read([Read("odd", 0, (memory.data[page : page + 4096], memory.data[page + 4096 : page + 8192]))])

    def test_file_system_without_direct_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = os.open

        def refuses(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return plain(path, flags, mode, **more)

        monkeypatch.setattr(os, "open", refuses)
        with pytest.raises(StoreUnavailable, match=r"without direct reads \(O_DIRECT\); leave out direct=1"):
            open_store(f"file://{tmp_path}?direct=1")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
    def test_memory_posing_as_a_disk_is_refused(self) -> None:
        """Linux before 6.6 refuses O_DIRECT on tmpfs; since then it takes it and reads memory."""
        place = Path("/dev/shm/ttft-test-direct")
        try:
            with pytest.raises(StoreUnavailable, match="leave out direct=1"):
                open_store(f"file://{place}?direct=1")
            assert list(place.iterdir()) == []
        finally:
            place.rmdir()


class TestPageCache:
    def test_written_objects_are_warm_and_evicted_ones_cold(self, direct_path: Path) -> None:
        store = open_store(f"file://{direct_path}")
        store.write_many([("one", [pattern(1 << 20)]), ("two", [pattern(1 << 20)])])
        assert store.cached_fraction(["one", "two"]) == 1.0
        assert store.evict_from_os_cache(["one", "absent"]) is True
        assert store.cached_fraction(["one"]) == 0.0
        assert store.cached_fraction(["one", "two"]) == 0.5
        store.fill_os_cache(["one", "two"])
        assert store.cached_fraction(["one", "two"]) == 1.0

    def test_no_objects_have_no_fraction(self, tmp_path: Path) -> None:
        assert open_store(f"file://{tmp_path}").cached_fraction([]) is None

    def test_what_cannot_be_dropped_is_reported(self, direct_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(f"file://{direct_path}")
        store.write("stays", [pattern(100_000)])
        monkeypatch.setattr(os, "posix_fadvise", lambda *_: None)
        assert store.evict_from_os_cache(["stays"]) is False
        assert store.cached_fraction(["stays"]) == 1.0

    def test_direct_reads_and_writes_leave_the_page_cache_alone(self, direct_path: Path) -> None:
        store = open_store(f"file://{direct_path}?direct=1")
        store.write("cold", [pattern(1 << 20)])
        assert store.cached_fraction(["cold"]) == 0.0
        assert fetch(store, "cold", 3, 1 << 19) == [pattern(1 << 20)[3 : 3 + (1 << 19)]]
        store.fill_os_cache(["cold"])
        assert store.cached_fraction(["cold"]) == 0.0
