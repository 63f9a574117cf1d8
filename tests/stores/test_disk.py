"""``file://``: the conformance suite, and what only files can get wrong. Direct reads: test_direct_io.py."""

import errno
import os
import re
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.core.errors import ChunkTruncated, ReadFailures, StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.base import Read
from harness.stores.files.disk import DiskStore
from harness.testing.stores import StoreTests, fetch, pattern


def open_disk(path: Path, query: str = "") -> DiskStore:
    store = open_store(f"file://{path}{query}")
    assert isinstance(store, DiskStore)
    return store


class TestBufferedDisk(StoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/kv"


class TestSyncedDisk(StoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/with%20space/kv?fsync=1"

    def test_percent_codes_of_the_url_are_decoded(self, url: str, tmp_path: Path) -> None:
        open_store(url).close()
        assert (tmp_path / "with space" / "kv").is_dir()


def test_layout_on_disk_is_the_documented_one(tmp_path: Path) -> None:
    open_disk(tmp_path).write("abcdef", [b"data"])
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == ["ab/abcdef.kv"]
    assert (tmp_path / "ab/abcdef.kv").read_bytes() == b"data"


def test_deleting_everything_leaves_an_empty_directory(tmp_path: Path) -> None:
    store = open_disk(tmp_path)
    store.write_many([("aa1", [b"1"]), ("aa2", [b"2"]), ("bb1", [b"3"])])
    store.delete(["aa1", "bb1"])
    assert [path.name for path in tmp_path.iterdir()] == ["aa"]
    store.delete(["aa2"])
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_temporary_files_are_no_objects(tmp_path: Path) -> None:
    store = open_disk(tmp_path)
    store.write("abcd", [b"ours"])
    (tmp_path / "ab/abce.kv.123.tmp").write_bytes(b"half-written")
    (tmp_path / "ab/zz-elsewhere.kv").write_bytes(b"in the wrong folder")
    (tmp_path / "README").write_bytes(b"no folder")
    assert list(store.keys()) == ["abcd"]
    assert store.exists(["abce"]) == 0


@pytest.mark.parametrize("key", ["", "a/b", "../up", "ä", "a b", "x" * 201, "line\n"])
def test_a_key_that_could_leave_the_directory_is_refused(tmp_path: Path, key: str) -> None:
    store = open_disk(tmp_path)
    with pytest.raises(UsageError, match="is no key"):
        store.write(key, [b"data"])
    with pytest.raises(UsageError, match="is no key"):
        store.exists([key])


class TestBadAddresses:
    @pytest.mark.parametrize("url", ["file://relative/path", "file:///", "file://", "file:///a#b", "file:///a%00b"])
    def test_no_directory_named(self, url: str) -> None:
        with pytest.raises(UsageError, match=r"names no directory; write file:///absolute/path"):
            open_store(url)

    def test_path_is_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("in the way")
        for place in (path, path / "below"):
            with pytest.raises(StoreUnavailable, match=rf"{place}: .*; name a path that is a directory"):
                open_disk(place)

    def test_path_cannot_be_made(self) -> None:
        with pytest.raises(StoreUnavailable, match=r"cannot open the store at /proc/ttft: "):
            open_store("file:///proc/ttft")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_path_is_not_writable(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(StoreUnavailable, match="name a path that this user may write"):
                open_disk(tmp_path)
        finally:
            tmp_path.chmod(0o700)

    def test_unknown_option_lists_the_known(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"option of store 'file' 'dirct' \(did you mean 'direct'\?\).*direct, fsync"):
            open_disk(tmp_path, "?dirct=1")

    def test_option_of_a_wrong_kind(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="store 'file': direct='maybe' is invalid"):
            open_disk(tmp_path, "?direct=maybe")


class TestFailingWrites:
    """A write that fails leaves the old object and no temporary file, and says what to do."""

    @pytest.fixture
    def file_size_limit(self) -> Iterator[int]:
        """Files of this process can't grow past 1 MiB; the kernel's own refusal, with EFBIG."""
        limit = 1 << 20
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        yield limit
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    def test_kernel_refuses_half_way(self, tmp_path: Path, file_size_limit: int) -> None:
        store = open_disk(tmp_path)
        store.write("grows", [b"old"])
        with pytest.raises(StoreUnavailable, match=r"cannot write the object at .*grows\.kv: File too large; "):
            store.write("grows", [pattern(file_size_limit), b"one byte more"])
        assert fetch(store, "grows", 0, 3) == [b"old"]
        assert [path.name for path in tmp_path.rglob("*.*")] == ["grows.kv"]

    @pytest.mark.parametrize(
        ("code", "fix"),
        [
            (errno.ENOSPC, "free some space there"),
            (errno.EDQUOT, "quota"),
            (errno.EROFS, "read-only"),
            (errno.EIO, "another path"),
        ],
    )
    def test_every_reason_has_its_fix(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fix: str) -> None:
        store = open_disk(tmp_path)
        write = os.writev

        def writes_a_little_then_fails(descriptor: int, parts: Sequence[memoryview]) -> int:
            if os.fstat(descriptor).st_size:
                raise OSError(code, os.strerror(code))
            return write(descriptor, [parts[0][:10]])

        monkeypatch.setattr(os, "writev", writes_a_little_then_fails)
        with pytest.raises(StoreUnavailable, match=rf"{re.escape(str(tmp_path))}/fu/full\.kv: .*{fix}"):
            store.write("full", [b"x" * 100])
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_interrupt_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_disk(tmp_path)

        def interrupted(descriptor: int, parts: Sequence[memoryview]) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "writev", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.write("half", [b"x"])
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_reads_and_writes_go_on_after_partial_system_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may move less than asked, for instance above 2 GiB or on a network file system."""
    read, write = os.preadv, os.writev
    monkeypatch.setattr(os, "preadv", lambda fd, parts, offset: read(fd, [parts[0][:777]], offset))
    monkeypatch.setattr(os, "writev", lambda fd, parts: write(fd, [parts[0][:999]]))
    store = open_disk(tmp_path)
    data = pattern(20_000)
    store.write("pieces", [data[:5], data[5:]])
    assert b"".join(fetch(store, "pieces", 0, 6000, 1, 13_999)) == data


def test_unreadable_object_fails_alone(tmp_path: Path) -> None:
    store = open_disk(tmp_path)
    store.write("good", [b"data"])
    (tmp_path / "ba").mkdir()
    (tmp_path / "ba/bad.kv").mkdir()
    out = [bytearray(4), bytearray(4)]
    with pytest.raises(ReadFailures) as caught:
        store.read([Read("bad", 0, (memoryview(out[0]),)), Read("good", 0, (memoryview(out[1]),))])
    assert isinstance(caught.value.failures[0], StoreUnavailable)
    assert set(caught.value.failures) == {0}
    assert out[1] == b"data"


def test_no_file_stays_open(tmp_path: Path) -> None:
    store = open_disk(tmp_path)
    store.write("object", [pattern(5000)])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        fetch(store, "object", 0, 5000)
        with pytest.raises(ChunkTruncated):
            fetch(store, "object", 0, 5001)
        store.cached_fraction(["object"])
        store.evict_from_os_cache(["object"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
