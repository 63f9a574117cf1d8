"""A real Mooncake cluster for tests, on free loopback ports: a master, and a storage client that lends its memory."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest
from servers import answers, free_port, lacking, started

from harness.core.errors import SetupError
from harness.stores.mooncake.client import load

STORAGE_MB = 256


@dataclass(frozen=True)
class Cluster:
    """A running master and storage client."""

    port: int
    admin_port: int
    master: "subprocess.Popen[bytes]"
    storage: "subprocess.Popen[bytes]"

    def fresh(self, options: str = "") -> str:
        """The URL of a store that no other test has."""
        return f"mooncake://127.0.0.1:{self.port}?admin_port={self.admin_port}&prefix=test-{uuid4().hex}:{options}"

    @staticmethod
    @contextmanager
    def silent(process: "subprocess.Popen[bytes]") -> Iterator[None]:
        """It keeps its connections and says nothing meanwhile."""
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # its threads stop a little later
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGCONT)


def program(module: str) -> list[str]:
    """The command that a script of the package stands for; it becomes the program, so that a signal reaches that."""
    if find_spec("mooncake") is None:
        lacking("the package mooncake", "pip install 'ttft[mooncake]'")
    try:
        load()
    except SetupError as error:
        lacking("a package mooncake that loads", str(error))
    return [sys.executable, "-m", module]


@contextmanager
def mooncake_cluster(storage_mb: int = STORAGE_MB, port: int = 0, admin_port: int = 0) -> Iterator[Cluster]:
    """A cluster whose storage client lends ``storage_mb`` MiB. The ports are those of the master."""
    port, admin_port, storage_port = port or free_port(), admin_port or free_port(), free_port()
    master = [*program("mooncake.cli"), "--rpc_address=127.0.0.1", f"--rpc_port={port}"]
    master += ["--metrics_host=127.0.0.1", f"--metrics_port={admin_port}"]
    storage = [*program("mooncake.cli_client"), "--host=127.0.0.1", f"--port={storage_port}", "--metadata_server=P2PHANDSHAKE"]
    storage += [f"--master_server_address=127.0.0.1:{port}", f"--global_segment_size={storage_mb}MB"]
    with (
        tempfile.TemporaryDirectory(prefix="ttft-mooncake-master-") as one,
        tempfile.TemporaryDirectory(prefix="ttft-mooncake-storage-") as other,
        started(master, Path(one), lambda: answers(port) and answers(admin_port)) as master_process,
        started(storage, Path(other), lambda: answers(storage_port)) as storage_process,
    ):
        yield Cluster(port, admin_port, master_process, storage_process)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One cluster for all tests of a file; each test uses a prefix of its own."""
    with mooncake_cluster() as running:
        yield running
