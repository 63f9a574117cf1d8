"""A file system that hangs holds a load up no longer than to its deadline; and which file systems may hang."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import DeadlineMissed, ReadFailures, StoreError, StoreUnavailable
from harness.stores import open_store
from harness.stores.base import GRACE_S, Read, Store
from harness.stores.bounded import MOST_HUNG, Apart
from harness.stores.files import directory, trust
from harness.stores.files.trust import remote_file_system
from harness.testing.stores import pattern

CALLS = ("read", "aread")


def failures(store: Store, call: str, *keys: str, deadline: float = float("inf")) -> dict[int, StoreError]:
    reads = [Read(key, 0, (memoryview(bytearray(100)),), deadline) for key in keys]
    try:
        if call == "read":
            store.read(reads)
        else:
            asyncio.run(store.aread(reads))
    except ReadFailures as error:
        return error.failures
    return {}


class TestAFileSystemThatHangs:
    """A dead NFS mount, for which a preadv that doesn't return stands."""

    @pytest.fixture
    def hanging(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
        """Reads of files with ``hangs`` in their names wait for it."""
        go_on, read, lstat = threading.Event(), os.preadv, os.lstat

        def preadv(descriptor: int, parts: list[memoryview], offset: int) -> int:
            if "hangs" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                go_on.wait(20)
            return read(descriptor, parts, offset)

        def slow_lstat(path: str | Path) -> os.stat_result:
            if "hangs" in str(path):
                go_on.wait(20)
            return lstat(path)

        monkeypatch.setattr(directory, "remote_file_system", lambda path: "nfs4")
        monkeypatch.setattr(os, "preadv", preadv)
        monkeypatch.setattr(os, "lstat", slow_lstat)
        yield go_on
        go_on.set()

    @pytest.mark.parametrize("call", CALLS)
    def test_reads_end_at_the_deadline_of_their_load_and_never_write_later(
        self, tmp_path: Path, hanging: threading.Event, call: str
    ) -> None:
        with open_store(f"file://{tmp_path}/kv") as store:
            store.write_many([("it-hangs", [pattern(100)]), ("goes", [pattern(100)])])
            assert failures(store, call, "goes") == {}
            start = time.monotonic()
            deadline = start + 0.3
            out = bytearray(100)
            for _ in range(3):  # all calls of a load together
                with pytest.raises(ReadFailures) as caught:
                    store.read([Read("it-hangs", 0, (memoryview(out),), deadline)])
                assert isinstance(caught.value.failures[0], DeadlineMissed)
            assert time.monotonic() - start < 0.3 + GRACE_S
            hanging.set()
            time.sleep(0.05)
            assert out == bytes(100)
            assert failures(store, call, "it-hangs", deadline=time.monotonic() + 20) == {}

    def test_without_a_deadline_the_time_out_of_the_store_holds(self, tmp_path: Path, hanging: threading.Event) -> None:
        with open_store(f"file://{tmp_path}/kv?timeout_s=0.1") as store:
            store.write("it-hangs", [pattern(100)])
            assert isinstance(failures(store, "read", "it-hangs")[0], DeadlineMissed)
            with pytest.raises(StoreUnavailable, match=r"the nfs4 file system at .* did not answer in time"):
                store.exists(["it-hangs"])

    def test_aiofiles_reads_as_well(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory, "remote_file_system", lambda path: "fuse.sshfs")
        go_on = threading.Event()
        opened = trust.open_regular

        def slow(path: str, flags: int, shared: bool) -> int:
            if "hangs" in path:
                go_on.wait(20)
            return opened(path, flags, shared)

        monkeypatch.setattr("harness.stores.files.aiofile.open_regular", slow)
        store = open_store(f"aiofile://{tmp_path}/kv")
        store.write_many([("it-hangs", [pattern(100)]), ("goes", [pattern(100)])])
        start = time.monotonic()
        found = failures(store, "read", "it-hangs", "goes", deadline=start + 0.2)
        assert time.monotonic() - start < 0.2 + GRACE_S
        assert {position: type(error) for position, error in found.items()} == {0: DeadlineMissed}
        go_on.set()
        store.close()

    def test_hung_calls_don_t_pile_up(self) -> None:
        go_on = threading.Event()
        apart = Apart("a mount")
        for _ in range(MOST_HUNG):
            with pytest.raises(DeadlineMissed):
                apart.call(go_on.wait, time.monotonic())
        with pytest.raises(StoreUnavailable, match=f"{MOST_HUNG} calls to a mount hang"):
            apart.call(lambda: None)
        go_on.set()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                assert apart.call(lambda: "back") == "back"
                return
            except StoreUnavailable:
                time.sleep(0.01)
        pytest.fail("the calls returned, and others are still refused")

    def test_no_thread_is_a_failed_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none_left(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(StoreUnavailable, match="cannot read in a thread of its own: can't start new thread; raise ulimit -u"):
            Apart("a mount").call(lambda: None)


MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /home rw,relatime shared:2 - nfs4 server:/home rw
31 30 8:17 / /home/me/fast\\040disk rw - xfs /dev/sdb1 rw
32 22 0:40 / /mnt/s3 rw - fuse.s3fs s3fs rw
33 22 0:41 / /var/lib rw - fuse.fuse-overlayfs overlay rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/kv", ""),
        ("/home/me/kv", "nfs4"),
        ("/homework/kv", ""),
        ("/home/me/fast disk/kv", ""),
        ("/mnt/s3", "fuse.s3fs"),
        ("/mnt/s3/../kv", ""),
        ("/var/lib/kv", ""),
    ],
)
def test_file_systems_that_may_hang_are_known_by_their_mounts(path: str, kind: str) -> None:
    assert remote_file_system(Path(path), lambda: MOUNTS) == kind


def test_without_a_list_of_mounts_none_is_known() -> None:
    def refuse() -> str:
        raise PermissionError

    assert remote_file_system(Path("/tmp"), refuse) == ""


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_shaped_read_that_would_end_after_its_deadline_ends_there(tmp_path: Path, asynchronous: bool) -> None:
    store = open_store(f"shaped+file://{tmp_path}/kv?latency_ms=30000")
    store.write("one", [b"12"])
    start = time.monotonic()
    reads = [Read("one", place, (memoryview(bytearray(1)),), start + 0.1) for place in range(2)]
    with pytest.raises(ReadFailures) as caught:
        if asynchronous:
            asyncio.run(store.aread(reads))
        else:
            store.read(reads)
    assert time.monotonic() - start < 0.1 + GRACE_S
    assert [type(error) for error in caught.value.failures.values()] == [DeadlineMissed] * 2
