"""A store that was opened before a fork and is used after it: either it works, or it is refused in one sentence.

A Redis store gave the other process's bytes: both read replies from one connection.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from mooncake_running import Cluster
from mooncake_running import cluster as mooncake
from nixl_running import nixl
from redis_running import Server
from s3_running import Server as S3Server

from harness.stores import STORES

__all__ = ["mooncake", "nixl"]

_FORKED = """
import asyncio, os, signal, sys
from harness.core.errors import SetupError
from harness.stores import open_store
from harness.stores.base import Read
signal.alarm(60)
store = open_store(sys.argv[1])
store.write("key", [b"parents"])
def read(key="key"):
    out = bytearray(7)
    store.read([Read(key, 0, (memoryview(out),))])
    return bytes(out)
def aread():
    out = bytearray(7)
    asyncio.run(store.aread([Read("key", 0, (memoryview(out),))]))
    return bytes(out)
assert read() == b"parents"
aread()
if os.fork() == 0:
    code = 0
    for use in (lambda: store.exists(["key"]) == 1, lambda: read() == b"parents", lambda: aread() == b"parents"):
        try:
            right = use()
            print("right" if right else "wrong", flush=True)
        except SetupError as error:
            print("refused" if "let processes be spawned" in str(error) else error, flush=True)
    store.close()
    os._exit(0)
_, status = os.wait()
assert status == 0, status
assert read() == b"parents"
print("parent right", flush=True)
store.delete(["key"])
store.close()
"""


@pytest.fixture
def urls(tmp_path: Path) -> dict[str, str]:
    return {
        "file": f"file://{tmp_path}/file",
        "aiofile": f"aiofile://{tmp_path}/aio",
        "mem": f"mem://fork-{tmp_path.parent.name}-{tmp_path.name}".replace("_", "-")[:90],
        "shaped": f"shaped+file://{tmp_path}/shaped?latency_ms=1",
    }


def forked(url: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", _FORKED, url], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["file", "mem", "shaped"])
def test_stores_without_connections_work_on(urls: dict[str, str], name: str) -> None:
    assert forked(urls[name]) == ["right", "right", "right", "parent right"]


def test_threads_of_aiofile_are_refused(urls: dict[str, str]) -> None:
    assert forked(urls["aiofile"]) == ["right", "refused", "refused", "parent right"]


@pytest.mark.usefixtures("nixl")
def test_queues_of_nixl_are_refused(tmp_path: Path) -> None:
    assert forked(f"nixl://{tmp_path}/kv") == ["right", "refused", "refused", "parent right"]


def test_redis(server: Server) -> None:
    assert forked(server.url) == ["refused"] * 3 + ["parent right"]


def test_redis_over_tls(tls_url: str) -> None:
    assert forked(tls_url) == ["refused"] * 3 + ["parent right"]


def test_redis_cluster(cluster: list[Server]) -> None:
    assert forked(f"redis+cluster://127.0.0.1:{cluster[0].port}") == ["refused"] * 3 + ["parent right"]


@pytest.mark.usefixtures("login")
def test_s3(s3: S3Server) -> None:
    assert forked(s3.fresh()) == ["refused"] * 3 + ["parent right"]


def test_mooncake(mooncake: Cluster) -> None:
    assert forked(mooncake.fresh("&buffer_mb=1")) == ["refused"] * 3 + ["parent right"]


def test_every_store_is_tested_here() -> None:
    """gds has its own check (harness/stores/gds/kvikio_process.py), and no test without an NVIDIA driver."""
    assert set(STORES.all()) == {"file", "aiofile", "mem", "shaped", "redis", "rediss", "s3", "mooncake", "gds", "nixl"}
