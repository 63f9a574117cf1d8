"""Engines x stores x faults: the suite of harness/testing/fault_matrix.py over every store. Prints its tables at the end."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from signal import SIGCONT, SIGSTOP
from tempfile import TemporaryDirectory
from threading import Event
from typing import Generic, TypeVar
from uuid import uuid4

import pytest
from mooncake_running import Cluster, mooncake_cluster
from nixl_running import nixl
from redis_running import PASSWORD, Server, Start, at_a_socket, behind_tls, redis_server
from s3_running import Server as S3Server
from s3_running import s3_server
from servers import free_port

from harness.stores import STORES, open_store
from harness.stores.base import Store
from harness.stores.files import directory
from harness.stores.files.directory import DirectoryStore
from harness.stores.files.memory import MemoryStore
from harness.stores.wrapper import Wrapper
from harness.testing.fault_matrix import FOUND, FaultTests, Target, tables
from harness.testing.faulty_proxy import FaultyProxy
from harness.testing.surroundings import no_space

__all__ = ["nixl"]

# Where a peer hangs up before the handshake, Python's wrap_socket closes nothing, in redis' own client too.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")

CALLS = frozenset({"open", "preadv"})


@pytest.fixture(scope="module", autouse=True)
def _tables(request: pytest.FixtureRequest) -> Iterator[None]:
    FOUND.clear()
    yield
    gc.collect()  # here, where the filter holds, and not in the tests of another file
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(f"\n{tables()}")
    assert not [found for found in FOUND if found.outcome == "wrong"]


@contextmanager
def hanging_reads() -> Iterator[None]:
    """Files that are open can't be read, as on a mount whose server is gone."""
    over = Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DirectoryStore, "_read_one", lambda *_: over.wait(20))
        yield
        over.set()


class TestFile(FaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target("file", f"file://{tmp_path}/kv", calls=CALLS, full=no_space)


class TestFileOnANetwork(FaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
        monkeypatch.setattr(directory, "remote_file_system", lambda path: "nfs4")
        url = f"file://{tmp_path}/kv"
        return Target("file (nfs)", url, calls=CALLS, full=no_space, silence=hanging_reads, spawns=False)


class TestDirect(FaultTests):
    @pytest.fixture
    def target(self, direct_path: Path) -> Target:
        return Target("file direct", f"file://{direct_path}?direct=1", calls=CALLS, full=no_space)


class TestAioFile(FaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target("aiofile", f"aiofile://{tmp_path}/kv", calls=frozenset({"open"}), full=no_space)


@pytest.mark.usefixtures("nixl")
class TestNixl(FaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target("nixl", f"nixl://{tmp_path}/kv", full=no_space)


class TestMemory(FaultTests):
    @pytest.fixture
    def target(self, request: pytest.FixtureRequest) -> Target:
        name = f"test-{uuid4().hex}"
        place = MemoryStore.shared_memory / f"ttft-{name}"
        request.addfinalizer(lambda: rmtree(place, ignore_errors=True))  # a killed writer leaves a temporary file
        return Target("mem", f"mem://{name}", calls=CALLS, full=no_space)


class TestShaped(FaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        url = f"shaped+file://{tmp_path}/kv?latency_ms=1&slow_share=0.1&slow_ms=5"
        return Target("shaped", url, calls=CALLS, full=no_space)


class TestSealed(FaultTests):
    @pytest.fixture
    def target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
        monkeypatch.setenv("TTFT_TEST_SEAL", "a secret of some length")
        return Target("sealed", f"sealed+file://{tmp_path}/kv?seal=$TTFT_TEST_SEAL", calls=CALLS, full=no_space)


Running = TypeVar("Running", bound=Server | S3Server | Cluster)


class Mortal(Generic[Running]):
    """A server that may be killed; it comes back empty, at the same port. ``start(port=0)`` starts it at any."""

    def __init__(self, start: Callable[..., AbstractContextManager[Running]]) -> None:
        self._start = start
        self._stack = ExitStack()
        self.server = self._stack.enter_context(start())

    @contextmanager
    def killed(self) -> Iterator[None]:
        self._stack.close()
        try:
            yield
        finally:
            self.server = self._stack.enter_context(self._start(port=self.server.port))

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Mortal[Server]]:
    with closing(Mortal(redis_server)) as own:
        yield own


@pytest.fixture(scope="module")
def own_s3() -> Iterator[Mortal[S3Server]]:
    with closing(Mortal(s3_server)) as own:
        yield own


@contextmanager
def told(server: Server, words: str, back: str, password: str = "") -> Iterator[None]:
    """The server was told something by redis-cli, and is told something else afterwards."""
    assert server.says(*words.split(), password=password) == "OK"
    try:
        yield
    finally:
        assert server.says(*back.split(), password=password) == "OK"


@contextmanager
def silent(server: Server) -> Iterator[None]:
    """It keeps its connections and says nothing meanwhile."""
    server.process.send_signal(SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(SIGCONT)


class TestRedis(FaultTests):
    @pytest.fixture
    def target(self, own_redis: Mortal[Server]) -> Iterator[Target]:
        own = own_redis
        with FaultyProxy(own.server.port) as proxy:
            yield Target(
                "redis",
                f"redis://127.0.0.1:{proxy.port}?prefix={uuid4().hex}:",
                proxy=proxy,
                killed=own.killed,
                denied=lambda: told(own.server, "acl setuser default -@read", "acl setuser default +@all"),
                full=lambda: told(own.server, "config set maxmemory 1", "config set maxmemory 0"),
            )


Addressed = tuple[str, Mortal[Server]]


@contextmanager
def addressed(made: tuple[str, Start]) -> Iterator[Addressed]:
    """A URL, and the server that is found there."""
    url, start = made
    with closing(Mortal(start)) as own:
        yield url, own


@pytest.fixture(scope="module")
def own_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addressed]:
    with addressed(behind_tls(tmp_path_factory.mktemp("tls"))) as own:
        yield own


@pytest.fixture(scope="module")
def own_socket() -> Iterator[Addressed]:
    with TemporaryDirectory(prefix="ttft-") as folder, addressed(at_a_socket(Path(folder))) as own:  # a short path
        yield own


class TestRedisOverTls(FaultTests):
    @pytest.fixture
    def target(self, own_tls: Addressed) -> Iterator[Target]:
        url, own = own_tls
        port = url.rpartition("@")[2].partition("/")[0].rpartition(":")[2]
        with FaultyProxy(int(port)) as proxy:
            url = f"{url.replace(port, str(proxy.port))}&prefix={uuid4().hex}:"
            yield Target("rediss", url, proxy=proxy, killed=own.killed)


class TestRedisAtASocket(FaultTests):
    @pytest.fixture
    def target(self, own_socket: Addressed) -> Target:
        url, own = own_socket
        return Target(
            "redis+unix",
            f"{url}&prefix={uuid4().hex}:&timeout_s=1",
            killed=own.killed,
            silence=lambda: silent(own.server),
            full=lambda: told(own.server, "config set maxmemory 1", "config set maxmemory 0", PASSWORD),
        )


class TestRedisCluster(FaultTests):
    @pytest.fixture
    def target(self, cluster: list[Server]) -> Target:
        return Target("redis+cluster", f"redis+cluster://127.0.0.1:{cluster[0].port}?prefix={uuid4().hex}:")


@pytest.mark.usefixtures("login")
class TestS3(FaultTests):
    @pytest.fixture
    def target(self, own_s3: Mortal[S3Server]) -> Iterator[Target]:
        own = own_s3
        with FaultyProxy(own.server.port) as proxy:
            url = own.server.fresh("&retries=0&timeout_s=3", proxy.port)
            yield Target("s3", url, proxy=proxy, killed=own.killed, denied=own.server.checking_credentials)


@pytest.fixture(scope="module")
def own_mooncake() -> Iterator[Mortal[Cluster]]:
    admin_port = free_port()
    with closing(Mortal(partial(mooncake_cluster, admin_port=admin_port))) as own:
        yield own


@pytest.fixture(scope="module")
def opened(own_mooncake: Mortal[Cluster]) -> Iterator[tuple[str, Store]]:
    """Opening takes a second."""
    url = own_mooncake.server.fresh("&buffer_mb=8&timeout_s=1")
    with open_store(url) as store:
        yield url, store


class TestMooncake(FaultTests):
    @pytest.fixture
    def target(self, own_mooncake: Mortal[Cluster], opened: tuple[str, Store]) -> Target:
        own, (url, store) = own_mooncake, opened

        def silence() -> AbstractContextManager[None]:
            return own.server.silent(own.server.storage)

        return Target("mooncake", url, opened=store, silence=silence, killed=own.killed, cannot=frozenset({"empty"}))


class TestStoreOfSomebodyElses(FaultTests):
    """Knows no deadlines; ``Bounded`` keeps them for it."""

    @pytest.fixture
    def target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
        monkeypatch.setattr("harness.stores.files.disk.DiskStore.keeps_deadlines", False)
        with open_store(f"file://{tmp_path}/kv") as store:
            assert isinstance(store, Wrapper)
        return Target("Bounded", f"file://{tmp_path}/kv", calls=CALLS, full=no_space, silence=hanging_reads, spawns=False)


def test_every_store_is_tested_here() -> None:
    """gds has its own checks (harness/stores/gds/kvikio_process.py), and no test without an NVIDIA driver."""
    assert set(STORES.all()) == {"file", "aiofile", "mem", "shaped", "sealed", "redis", "rediss", "s3", "mooncake", "gds", "nixl"}
