"""What may stand in place of an object or a whole file store: FIFOs, links, other users' files, a file system that hangs."""

import asyncio
import errno
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from kvikio_running import pretended_kvikio
from nixl_running import require_nixl

from harness.core.errors import ChunkMissing, DeadlineMissed, ReadFailures, StoreError, StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.base import Read, Store
from harness.stores.files.directory import DirectoryStore
from harness.stores.files.memory import MemoryStore
from harness.stores.files.trust import STALE_S, TEMPORARY
from harness.testing.stores import pattern

KINDS = ("file", "aiofile", "mem", "gds", "nixl")
CALLS = ("read", "aread")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "mem":
        monkeypatch.setattr(MemoryStore, "shared_memory", tmp_path)
        return "mem://kv"
    if request.param == "gds":
        pretended_kvikio(monkeypatch)
    if request.param == "nixl":
        require_nixl()
    return f"{request.param}://{tmp_path}/ttft-kv"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "ttft-kv"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as store:
        yield store


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


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(path.parent)  # such a path may have 108 bytes
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "link to a file": lambda path: path.symlink_to("/etc/hostname"),
    "link to nothing": lambda path: path.symlink_to("/nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", IN_THE_WAY)
def test_only_regular_files_are_objects(store: Store, root: Path, what: str, call: str) -> None:
    """A FIFO in place of an object made each read wait for ever."""
    store.write_many([("badness", [pattern(100)]), ("goodness", [pattern(100)])])
    place = root / "ba/badness.kv"
    place.unlink()
    IN_THE_WAY[what](place)
    found = failures(store, call, "badness", "goodness")
    assert set(found) == {0}
    assert isinstance(found[0], StoreUnavailable | ChunkMissing)
    assert str(place) in str(found[0])
    assert store.exists(["badness"]) == 0
    if what != "directory":
        store.write("badness", [pattern(100)])  # takes its place, and writes nowhere else
        assert place.is_file() and not place.is_symlink()
        assert failures(store, call, "badness") == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
class TestOtherUsers:
    @pytest.mark.parametrize("call", CALLS)
    def test_their_objects_are_refused(self, store: Store, root: Path, call: str) -> None:
        store.write("planted", [pattern(100)])
        os.chown(root / "pl/planted.kv", 12345, 12345)
        found = failures(store, call, "planted")
        assert isinstance(found[0], StoreUnavailable)
        assert "belongs to user 12345" in str(found[0])

    def test_their_directory_is_refused(self, url: str, root: Path) -> None:
        root.mkdir(mode=0o700)
        os.chown(root, 12345, 12345)
        with pytest.raises(StoreUnavailable, match=rf"{root} belongs to user 12345, who decides what is in it; name a directory"):
            open_store(url)

    def test_shared_takes_them(self, root: Path) -> None:
        root.mkdir()
        os.chown(root, 12345, 12345)
        root.chmod(0o777)
        with open_store(f"file://{root}?shared=1") as store:
            store.write("theirs", [pattern(100)])
            os.chown(root / "th/theirs.kv", 12345, 12345)
            assert failures(store, "read", "theirs") == {}


def test_a_link_in_place_of_the_root_is_refused(url: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match=f"{root} is a symbolic link"):
        open_store(url)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_root_that_others_may_write_is_refused(url: str, root: Path, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(StoreUnavailable, match=f"other users may write to {root} .*chmod go-w"):
        open_store(url)
    root.chmod(0o755)
    open_store(url).close()


def test_nobody_else_may_read_or_write_what_is_written(url: str, root: Path) -> None:
    before = os.umask(0)
    try:
        with open_store(url) as store:
            store.write("private", [pattern(100)])
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (root, *root.rglob("*"))} == {
        "ttft-kv": 0o700,
        "pr": 0o700,
        "private.kv": 0o600,
    }


def test_temporary_files_of_killed_writers_go_when_they_are_old(url: str, root: Path) -> None:
    open_store(url).close()
    young, old, foreign = root / f"{TEMPORARY}1.tmp", root / f"{TEMPORARY}2.tmp", root / "users.tmp"
    for path in (young, old, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (time.time() - STALE_S - 60,) * 2)
    open_store(url).close()
    assert sorted(path.name for path in root.iterdir()) == sorted([young.name, foreign.name])


def test_a_killed_writer_leaves_only_what_is_swept(url: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the moment: nothing but temporary files in the root, which a later store finds by listing it."""

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with open_store(url) as store:
        for name in ("replace", "writev"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, kill)
                patch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process cleans nothing up
                with pytest.raises(Killed):
                    store.write("half", [pattern(100)])
        assert store.exists(["half"]) == 0
        left = [path for path in root.rglob("*") if path.is_file()]
        assert left and all(path.parent == root and path.name.startswith(TEMPORARY) for path in left)
        assert list(store.keys()) == []


@pytest.mark.parametrize("call", CALLS)
def test_no_read_begins_after_its_deadline(store: Store, call: str) -> None:
    store.write("soon", [pattern(100)])
    assert failures(store, call, "soon", deadline=time.monotonic() + 60) == {}
    found = failures(store, call, "soon", deadline=time.monotonic() - 1)
    assert isinstance(found[0], DeadlineMissed)
    assert "soon" in str(found[0])


def test_every_store_over_a_directory_is_tested_here() -> None:
    from harness.stores import STORES

    assert {name for name, cls in STORES.all().items() if issubclass(cls, DirectoryStore)} == set(KINDS)


class TestPerUserDefault:
    def test_lies_in_the_cache_of_this_user_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """/tmp/ttft-kv, the default before, could be put there by anybody."""
        from harness.experiment.settings import Experiment

        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        for cache, place in (("", tmp_path / "home/.cache/ttft/kv"), (str(tmp_path / "xdg"), tmp_path / "xdg/ttft/kv")):
            monkeypatch.setenv("XDG_CACHE_HOME", cache)
            with open_store(Experiment().store) as store:
                assert isinstance(store, DirectoryStore)
                assert store.root == place
                assert stat.S_IMODE(place.stat().st_mode) == 0o700
                assert store.url == "file://~/.cache/ttft/kv"  # the same for everybody, in results as well

    def test_other_paths_below_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        with open_store("file://~/a%20b/kv") as store:
            assert isinstance(store, DirectoryStore)
            assert store.root == tmp_path / "a b/kv"

    def test_without_a_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda user: {}[user])
        with pytest.raises(UsageError, match="this user has no home"):
            open_store("file://~/kv")


def test_keys_are_listed_whatever_comes_goes_or_lies_there_meanwhile(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("ab1", "cd1"):
        store.write(key, [pattern(100)])
    (root / "ef").write_bytes(b"")
    (root / "cd" / "other").write_bytes(b"")
    assert sorted(store.keys()) == ["ab1", "cd1"]
    listing = store.keys()
    store.delete([next(listing)])  # and its folder with it; the other one goes before its turn
    left = next(iter(store.keys()))
    store.delete([left])
    assert set(listing) <= {left}
    shutil.rmtree(root)
    assert list(store.keys()) == []  # somebody removed the root
    monkeypatch.setattr(os, "listdir", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    with pytest.raises(StoreUnavailable, match=r"cannot list the objects at .*: Input/output error"):
        list(store.keys())
