"""What can go wrong with ``mooncake://``: each ends in a named error at the opening or in a failed read, and nothing hangs."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from mooncake_running import Cluster, cluster, mooncake_cluster
from servers import free_port

from harness.core.errors import ChunkMissing, ReadFailures, SetupError, StoreError, StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.base import Read, Store
from harness.stores.mooncake.client import names_at
from harness.testing.stores import fetch, pattern

__all__ = ["cluster"]

SIZE = 100_000
QUICK = "&timeout_s=0.5&buffer_mb=8"
PATIENCE_S = 20.0
"""Far above what any of this takes, far below the minute and more that Mooncake waits by itself."""

_READ_FROM_SILENCE = """
import sys
from harness.core.errors import ReadFailures
from harness.stores.base import Read, open_store
keys = [f"key-{number}" for number in range(32)]
with open_store(sys.argv[1]) as store:
    store.write_many((key, [bytes(1000)]) for key in keys)
    print("written", flush=True)
    sys.stdin.readline()
    try:
        store.read([Read(key, 0, (memoryview(bytearray(1000)),)) for key in keys])
    except ReadFailures as error:
        print(len(error.failures), *{type(failure).__name__ for failure in error.failures.values()})
"""


def failures(store: Store, *keys: str, size: int = SIZE) -> dict[int, StoreError]:
    with pytest.raises(ReadFailures) as caught:
        store.read([Read(key, 0, (memoryview(bytearray(size)),)) for key in keys])
    return caught.value.failures


@pytest.fixture
def started() -> Iterator[float]:
    """When the test began; it fails where that is too long ago."""
    start = time.monotonic()
    yield start
    assert time.monotonic() - start < PATIENCE_S


@pytest.fixture(scope="module")
def mortal() -> Iterator[Cluster]:
    """A cluster with 16 MiB whose processes tests stop."""
    with mooncake_cluster(16) as running:
        yield running


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Iterator[Store]:
    with open_store(cluster.fresh("&buffer_mb=2")) as store:
        yield store


class TestOpening:
    @pytest.mark.parametrize(
        "url", ["mooncake://", "mooncake://:50051", "mooncake://host:0", "mooncake://host:99999", "mooncake://host/path",
                "mooncake://user:pw@host", "mooncake://host#part"]
    )  # fmt: skip
    def test_no_master_named(self, url: str) -> None:
        with pytest.raises(UsageError, match=r"names no Mooncake master; write mooncake://host:port") as caught:
            open_store(url)
        assert "pw" not in str(caught.value)

    @pytest.mark.parametrize("option", ["protocol=udp", "metadata=redis://:secret@host/0", "prefix=a%20b", "timeout_s=0"])
    def test_bad_options(self, option: str) -> None:
        with pytest.raises(UsageError, match=option.partition("=")[0]):
            open_store(f"mooncake://127.0.0.1?{option}")

    def test_no_such_host(self) -> None:
        with pytest.raises(StoreUnavailable, match=r"no Mooncake master at nowhere.invalid:50051"):
            open_store("mooncake://nowhere.invalid")

    def test_nobody_listens(self, started: float) -> None:
        with pytest.raises(StoreUnavailable, match="refused; start one"):
            open_store(f"mooncake://127.0.0.1:{free_port()}")

    def test_somebody_else_listens_and_says_nothing(self, started: float) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as other,
            pytest.raises(StoreUnavailable, match="see whether a master answers there"),
        ):
            open_store(f"mooncake://127.0.0.1:{other.getsockname()[1]}?timeout_s=0.5")

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mooncake.store", None)
        with (
            socket.create_server(("127.0.0.1", 0)) as other,
            pytest.raises(SetupError, match="need the package mooncake; install it"),
        ):
            open_store(f"mooncake://127.0.0.1:{other.getsockname()[1]}")

    def test_what_the_user_set_in_the_environment_stays(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MC_RPC_TIMEOUT_MS", "4321")
        monkeypatch.setenv("MC_TCP_STATUS_TIMEOUT_SEC", "3")
        monkeypatch.setenv("MC_TCP_PROGRESS_TIMEOUT_SEC", "3")
        before = dict(os.environ)
        with open_store(cluster.fresh("&buffer_mb=1")):
            assert dict(os.environ) == before


class TestUse:
    def test_an_object_deleted_after_the_lookup_is_missing(self, store: Store) -> None:
        store.write_many((key, [pattern(SIZE)]) for key in ("first", "gone", "last"))
        assert store.exists(["first", "gone", "last"]) == 3
        store.delete(["gone"])
        caught = failures(store, "first", "gone", "last")
        assert set(caught) == {1}
        assert isinstance(caught[1], ChunkMissing)
        store.delete(["first", "last"])

    def test_more_calls_than_the_buffer_holds_wait_for_each_other(self, store: Store) -> None:
        size = 1_500_000  # of which the buffer holds two
        store.write("shared", [pattern(size)])
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: fetch(store, "shared", 0, size)[0], range(24))) == {pattern(size)}
        store.delete(["shared"])

    def test_a_batch_beyond_the_buffer_arrives_whole(self, store: Store) -> None:
        keys = [f"part-{number}" for number in range(20)]
        store.write_many((key, [pattern(300_000, number)]) for number, key in enumerate(keys))
        out = [bytearray(300_000) for _ in keys]
        store.read([Read(key, 0, (memoryview(part),)) for key, part in zip(keys, out, strict=True)])
        assert out == [pattern(300_000, number) for number in range(20)]
        store.delete(keys)

    def test_an_object_larger_than_the_buffer(self, store: Store) -> None:
        with pytest.raises(StoreUnavailable, match="raise buffer_mb="):
            store.write("large", [bytes(40 << 20)])
        assert "raise buffer_mb=" in str(failures(store, "large", size=40 << 20)[0])

    def test_an_object_without_bytes_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreUnavailable, match="no objects without bytes"):
            store.write("empty", [b""])

    def test_a_prefix_keeps_other_keys_away(self, store: Store, cluster: Cluster) -> None:
        store.write("mine", [b"data"])
        with open_store(cluster.fresh("&buffer_mb=1")) as other:
            assert list(other.keys()) == []
            assert other.exists(["mine"]) == 0
            other.delete(["mine"])
        assert list(store.keys()) == ["mine"]
        store.delete(["mine"])

    def test_keys_need_the_admin_port(self) -> None:
        with pytest.raises(StoreUnavailable, match="set admin_port= to the --metrics_port"):
            names_at("127.0.0.1", free_port(), 1)

    def test_closing_waits_for_calls_under_way_and_refuses_others(self, cluster: Cluster) -> None:
        """Mooncake itself crashes the process where a closed client is used."""
        store = open_store(cluster.fresh("&buffer_mb=8"))
        store.write("busy", [pattern(SIZE)])
        results: list[object] = []

        def read() -> None:
            while True:
                try:
                    results.append(fetch(store, "busy", 0, SIZE) == [pattern(SIZE)])
                except StoreUnavailable as error:
                    results.append(str(error))
                    return

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        while len(results) < 8:
            time.sleep(0.001)
        store.close()
        for reader in readers:
            reader.join()
        assert sum("is closed" in result for result in results if isinstance(result, str)) == 4
        assert all(result for result in results)
        for call in (lambda: store.exists(["a"]), lambda: store.write("a", [b"1"]), lambda: store.delete(["a"])):
            with pytest.raises(StoreUnavailable, match="is closed"):
                call()
        assert "is closed" in str(failures(store, "a", "b", size=10)[1])


class TestServersThatFail:
    """In this order: each leaves the cluster worse."""

    def test_a_full_cluster(self, mortal: Cluster) -> None:
        with open_store(mortal.fresh("&buffer_mb=32")) as store:
            with pytest.raises(StoreUnavailable, match="its memory is full"):
                store.write("large", [bytes(20 << 20)])
            assert store.exists(["large"]) == 0

    def test_a_silent_master(self, mortal: Cluster, started: float) -> None:
        with open_store(mortal.fresh(QUICK)) as store:
            store.write("key", [pattern(SIZE)])
            with mortal.silent(mortal.master):
                with pytest.raises(StoreUnavailable, match="the master did not answer in time"):
                    store.exists(["key"])
                assert "the master did not answer in time" in str(failures(store, "key")[0])
            assert fetch(store, "key", 0, SIZE) == [pattern(SIZE)]

    def test_a_silent_storage_client_fails_the_batch_soon(self, mortal: Cluster, started: float) -> None:
        """Not object after object: 32 would wait for half a minute."""
        # In a process of its own, and without what the stores here have set: the first store decides how long to wait.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MC_")}
        command = [sys.executable, "-c", _READ_FROM_SILENCE, mortal.fresh(f"{QUICK}&parallel=4")]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment) as child:
            assert child.stdin is not None and child.stdout is not None
            assert child.stdout.readline() == "written\n"
            with mortal.silent(mortal.storage):
                child.stdin.write("\n")
                child.stdin.flush()
                assert child.stdout.readline() == "32 StoreUnavailable\n"

    def test_a_dead_storage_client(self, mortal: Cluster, started: float) -> None:
        with open_store(mortal.fresh(QUICK)) as store:
            store.write("key", [pattern(SIZE)])
            mortal.storage.kill()
            mortal.storage.wait()
            assert isinstance(failures(store, "key")[0], StoreUnavailable | ChunkMissing)

    def test_a_dead_master(self, mortal: Cluster, started: float) -> None:
        with open_store(mortal.fresh(QUICK)) as store:
            mortal.master.kill()
            mortal.master.wait()
            with pytest.raises(StoreUnavailable, match="the master does not answer"):
                store.exists(["key"])
            # From now on a call looks whether it is back before Mooncake does, which would take four seconds.
            with pytest.raises(StoreUnavailable, match="no Mooncake master at"):
                store.exists(["key"])
            assert "no Mooncake master at" in str(failures(store, "key")[0])
