"""``gds://``: what it refuses, here for real; and its conformance suite, where KvikIO and a driver are."""

import subprocess
import sys
from pathlib import Path

import pytest
from kvikio_running import needs_kvikio

from harness.core import machine
from harness.core.errors import ChunkMissing, ChunkTruncated, ReadFailures, SetupError, StoreUnavailable, UsageError
from harness.stores import STORES, open_store
from harness.stores.base import Read
from harness.stores.gds.store import GdsStore
from harness.testing.stores import StoreTests, fetch, pattern

_FORKED = """
import os, sys
from harness.core.errors import SetupError
from harness.stores.base import Read, open_store
url = sys.argv[1]
store = open_store(url)
store.write("key", [b"data"])
if os.fork() == 0:
    for use in (lambda: store.read([Read("key", 0, (memoryview(bytearray(4)),))]), lambda: open_store(url)):
        try:
            use()
        except SetupError as error:
            print(error)
    sys.stdout.flush()
    os._exit(0)
os.wait()
store.close()
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that says it is there; its library is another one."""
    version = tmp_path / "version"
    version.write_text("NVRM version: a stand-in")
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", version)
    monkeypatch.setattr("harness.stores.gds.kvikio_process._LIBRARY", "libc.so.6")


class TestRefusals:
    @pytest.mark.skipif(machine.nvidia_driver() is not None, reason="there is an NVIDIA driver")
    @pytest.mark.parametrize("query", ["", "?compat=on", "?compat=off&direct=1&threads=2"])
    def test_without_a_driver(self, tmp_path: Path, query: str) -> None:
        with pytest.raises(
            SetupError, match=r"need an NVIDIA driver, and this machine has none; install it, or use file:///path"
        ):
            open_store(f"gds://{tmp_path}/kv{query}")
        assert not (tmp_path / "kv").exists()

    @pytest.mark.usefixtures("driver")
    def test_without_the_drivers_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a container that sees the host's /proc."""
        monkeypatch.setattr("harness.stores.gds.kvikio_process._LIBRARY", "libttft-absent.so.1")
        with pytest.raises(SetupError, match=r"libttft-absent\.so\.1 of the NVIDIA driver, which does not load: .*; install it"):
            open_store(f"gds://{tmp_path}/kv")

    @pytest.mark.usefixtures("driver")
    def test_without_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "kvikio", None)
        with pytest.raises(SetupError, match=r"gds stores need the package kvikio; install it: pip install 'ttft\[gds\]'"):
            open_store(f"gds://{tmp_path}/kv")

    @pytest.mark.usefixtures("driver")
    def test_a_package_whose_libraries_are_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "kvikio.py").write_text("raise RuntimeError('Failure finding\\n libcufile.so.0')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "kvikio", raising=False)
        with pytest.raises(SetupError, match=r"kvikio does not load: Failure finding libcufile\.so\.0; install it again"):
            open_store(f"gds://{tmp_path}/kv")

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("compat=perhaps", "compat='perhaps' is invalid"),
            ("threads=0", "threads='0' is invalid"),
            ("direct=maybe", "direct='maybe' is invalid"),
            ("thread=4", r"unknown option of store 'gds' 'thread' \(did you mean 'threads'\?\); known: compat, direct, shared"),
        ],
    )
    def test_options_that_will_not_do(self, tmp_path: Path, query: str, message: str) -> None:
        """Told before anything is asked of the machine."""
        with pytest.raises(UsageError, match=message):
            open_store(f"gds://{tmp_path}?{query}")

    def test_it_fills_both_memories(self) -> None:
        """And no other store does, so that engines stage in front of these."""
        assert {name: store.fills for name, store in STORES.all().items() if "device" in store.fills} == {
            "gds": frozenset({"host", "device"})
        }


class TestGdsIntoHostMemory(StoreTests):
    pytestmark = needs_kvikio

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"gds://{tmp_path}/with%20space?compat=on"


class TestGdsAsTheMachineHasIt(StoreTests):
    pytestmark = needs_kvikio

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"gds://{tmp_path}/kv?threads=2"


class TestDirectGdsIntoHostMemory(StoreTests):
    pytestmark = needs_kvikio

    @pytest.fixture
    def url(self, direct_path: Path) -> str:
        return f"gds://{direct_path}?compat=on&direct=1"


class TestWithKvikio:
    pytestmark = needs_kvikio

    def test_file_stores_read_what_it_writes_and_the_other_way_round(self, tmp_path: Path) -> None:
        with open_store(f"gds://{tmp_path}?compat=on") as ours, open_store(f"file://{tmp_path}") as plain:
            ours.write("a", [pattern(5000)])
            plain.write("b", [pattern(5000, 1)])
            assert fetch(plain, "a", 0, 5000) == [pattern(5000)]
            assert fetch(ours, "b", 100, 50) == [pattern(5000, 1)[100:150]]

    def test_a_batch_of_more_files_than_are_open_at_once(self, tmp_path: Path) -> None:
        """Its failures stand at their positions, and no file stays open."""
        with open_store(f"gds://{tmp_path}?compat=on") as store:
            store.write_many((f"key{i}", [pattern(9000, i)]) for i in range(150) if i % 50 != 7)
            out = [bytearray(9000 if i != 60 else 9001) for i in range(150)]
            files = len(list(Path("/proc/self/fd").iterdir()))
            with pytest.raises(ReadFailures) as caught:
                store.read([Read(f"key{i}", 0, (memoryview(part)[:10], memoryview(part)[10:])) for i, part in enumerate(out)])
            assert len(list(Path("/proc/self/fd").iterdir())) == files
        kinds = {position: type(error) for position, error in caught.value.failures.items()}
        assert kinds == {7: ChunkMissing, 57: ChunkMissing, 60: ChunkTruncated, 107: ChunkMissing}
        assert [i for i, part in enumerate(out) if bytes(part) == pattern(9000, i)] == [i for i in range(150) if i not in kinds]

    def test_a_read_is_of_one_object_though_it_be_replaced_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """KvikIO opens a path twice. By path, 27 of 33,974 direct reads beside two writers held bytes of two objects."""
        with open_store(f"gds://{tmp_path}?compat=on") as store:
            assert isinstance(store, GdsStore)
            store.write("key", [pattern(5000)])
            plain = store._open

            def open_then_replace(key: str, flags: int = 0) -> int:
                descriptor = plain(key, flags)
                store.write(key, [pattern(5000, 1)])
                return descriptor

            monkeypatch.setattr(store, "_open", open_then_replace)
            assert fetch(store, "key", 0, 5000) == [pattern(5000)]

    def test_unreadable_object_fails_alone(self, tmp_path: Path) -> None:
        with open_store(f"gds://{tmp_path}?compat=on") as store:
            store.write("good", [b"data"])
            (tmp_path / "ba").mkdir()
            (tmp_path / "ba/bad.kv").mkdir()
            out = [bytearray(4), bytearray(4)]
            with pytest.raises(ReadFailures) as caught:
                store.read([Read("bad", 0, (memoryview(out[0]),)), Read("good", 0, (memoryview(out[1]),))])
        assert {position: type(error) for position, error in caught.value.failures.items()} == {0: StoreUnavailable}
        assert out[1] == b"data"

    def test_open_stores_of_a_process_agree_on_the_settings(self, tmp_path: Path) -> None:
        with open_store(f"gds://{tmp_path}?compat=on&threads=2"):
            with pytest.raises(UsageError, match=r"open in this process with compat=on, threads=2, direct=0, and KvikIO has one"):
                open_store(f"gds://{tmp_path}?compat=on&threads=3")
            open_store(f"gds://{tmp_path}?compat=on&threads=2").close()
        with open_store(f"gds://{tmp_path}?compat=on&threads=3") as store:
            store.close()  # twice is once
        open_store(f"gds://{tmp_path}?compat=on&threads=4").close()

    def test_direct_reads_and_writes_leave_the_page_cache_alone(self, direct_path: Path) -> None:
        with open_store(f"gds://{direct_path}?compat=on&direct=1") as store:
            store.write("cold", [pattern(1 << 20)])
            assert fetch(store, "cold", 4096, 1 << 19) == [pattern(1 << 20)[4096 : 4096 + (1 << 19)]]
            assert store.cached_fraction(["cold"]) == 0.0

    def test_a_wrong_place_is_no_open_store(self, tmp_path: Path) -> None:
        """The settings are free again after it."""
        with pytest.raises(UsageError, match="names no directory; write gds:///absolute/path"):
            open_store("gds://relative/path?threads=5")
        open_store(f"gds://{tmp_path}?threads=6").close()

    def test_a_forked_process_is_told_what_it_lacks(self, tmp_path: Path) -> None:
        """KvikIO's threads: who asked them would wait for ever."""
        command = [sys.executable, "-c", _FORKED, f"gds://{tmp_path}?compat=on"]
        child = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert child.stdout.count("let processes be spawned: VLLM_WORKER_MULTIPROC_METHOD=spawn") == 2
