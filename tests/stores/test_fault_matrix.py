"""Stores x faults: the suite of harness/testing/store_faults.py over every store. Prints its table at the end."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from mooncake_running import Cluster
from mooncake_running import cluster as mooncake
from nixl_running import nixl
from redis_running import Server
from s3_running import Server as S3Server

from harness.stores import open_store
from harness.stores.files import directory
from harness.stores.files.memory import MemoryStore
from harness.stores.wrapper import Wrapper
from harness.testing.faulty_proxy import FaultyProxy
from harness.testing.store_faults import OUTCOMES, StoreFaultTests, Target, table

__all__ = ["mooncake", "nixl"]


@pytest.fixture(scope="module", autouse=True)
def _table(request: pytest.FixtureRequest) -> Iterator[None]:
    OUTCOMES.clear()
    yield
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(f"\n{table()}")
    assert not [cell for cell, found in OUTCOMES.items() if "wrong" in found]


class TestFile(StoreFaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target("file", f"file://{tmp_path}/kv")


class TestFileOnANetwork(StoreFaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
        monkeypatch.setattr(directory, "remote_file_system", lambda path: "nfs4")
        return Target("file (nfs)", f"file://{tmp_path}/kv")


class TestDirect(StoreFaultTests):
    @pytest.fixture
    def target(self, direct_path: Path) -> Target:
        return Target("file direct", f"file://{direct_path}?direct=1")


class TestAioFile(StoreFaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target("aiofile", f"aiofile://{tmp_path}/kv")


@pytest.mark.usefixtures("nixl")
class TestNixl(StoreFaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target("nixl", f"nixl://{tmp_path}/kv")


class TestMemory(StoreFaultTests):
    @pytest.fixture
    def target(self, request: pytest.FixtureRequest) -> Target:
        name = f"test-{uuid4().hex}"
        place = MemoryStore.shared_memory / f"ttft-{name}"
        request.addfinalizer(lambda: place.rmdir() if place.exists() else None)
        return Target("mem", f"mem://{name}")


class TestShaped(StoreFaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target("shaped", f"shaped+file://{tmp_path}/kv?latency_ms=1&slow_share=0.1&slow_ms=5")


class TestRedis(StoreFaultTests):
    @pytest.fixture
    def target(self, server: Server) -> Iterator[Target]:
        with FaultyProxy(server.port) as proxy:
            yield Target("redis", f"redis://127.0.0.1:{proxy.port}?prefix={uuid4().hex}:", proxy)


class TestRedisOverTls(StoreFaultTests):
    @pytest.fixture
    def target(self, tls_url: str) -> Iterator[Target]:
        port = tls_url.rpartition("@")[2].partition("/")[0].rpartition(":")[2]
        with FaultyProxy(int(port)) as proxy:
            yield Target("rediss", f"{tls_url.replace(port, str(proxy.port))}&prefix={uuid4().hex}:", proxy)


class TestRedisCluster(StoreFaultTests):
    @pytest.fixture
    def target(self, cluster: list[Server]) -> Target:
        return Target("redis+cluster", f"redis+cluster://127.0.0.1:{cluster[0].port}?prefix={uuid4().hex}:")


@pytest.mark.usefixtures("login")
class TestS3(StoreFaultTests):
    @pytest.fixture
    def target(self, s3: S3Server) -> Iterator[Target]:
        with FaultyProxy(s3.port) as proxy:
            yield Target("s3", s3.fresh("&retries=0&timeout_s=3", proxy.port), proxy)


class TestMooncake(StoreFaultTests):
    @pytest.fixture
    def target(self, mooncake: Cluster) -> Target:
        url = mooncake.fresh("&buffer_mb=8&timeout_s=1")
        return Target("mooncake", url, silence=lambda: mooncake.silent(mooncake.storage))


class TestStoreOfSomebodyElses(StoreFaultTests):
    """Knows no deadlines; ``Bounded`` keeps them for it."""

    @pytest.fixture
    def target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
        monkeypatch.setattr("harness.stores.files.disk.DiskStore.keeps_deadlines", False)
        with open_store(f"file://{tmp_path}/kv") as store:
            assert isinstance(store, Wrapper)
        return Target("Bounded", f"file://{tmp_path}/kv")
