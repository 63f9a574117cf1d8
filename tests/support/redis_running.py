"""Real Redis servers for tests, on free loopback ports: one in the clear, one with TLS and a password, at a
Unix socket, a cluster of three, and a primary with its replica and a sentinel."""

import datetime
import ipaddress
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from servers import START_S, answers, free_port, require, started

PASSWORD = "hunter2/@?#"
PASSWORD_QUOTED = "hunter2%2F%40%3F%23"


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Of its database 0, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def say(self, *words: str, expect: str = "OK") -> None:
        """Have redis-cli send a command, and check what it prints."""
        said = self.says(*words)
        assert expect in said, said

    def says(self, *words: str, password: str = "") -> str:
        """What redis-cli prints of the answer to a command."""
        login = ["--no-auth-warning", "-a", password] if password else []
        command = [require("redis-cli", "redis-tools"), "-p", str(self.port), *login, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    def misses(self) -> int:
        """Lookups of absent keys so far."""
        with redis.Redis(port=self.port) as client:
            return int(client.info("stats")["keyspace_misses"])


@contextmanager
def redis_server(*more: str, port: int = 0) -> Iterator[Server]:
    """A server that keeps nothing on disk; ``more`` are further arguments of redis-server."""
    port = port or free_port()
    program = require("redis-server", "redis-server")
    with tempfile.TemporaryDirectory(prefix="ttft-redis-") as folder:
        command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", *more]
        with started(command, Path(folder), lambda: answers(port)) as process:
            yield Server(port, process)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ttft test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return paths


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests of a file; each test uses a prefix of its own."""
    with redis_server() as running:
        yield running


Start = Callable[..., AbstractContextManager[Server]]
"""Starts a server; ``port=`` is that of its other door, in the clear."""


def behind_tls(folder: Path) -> tuple[str, Start]:
    """The URL of a server behind TLS that wants a password, with what makes its certificate trusted, and the server."""
    certificate, key = self_signed(folder)
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
    url = f"rediss://:{PASSWORD_QUOTED}@127.0.0.1:{port}/1?ca={certificate}"
    return url, partial(redis_server, *tls, "--requirepass", PASSWORD)


def at_a_socket(folder: Path) -> tuple[str, Start]:
    """The URL of a server at a Unix socket that wants a password, and the server."""
    path = folder / "redis.sock"
    url = f"redis+unix://:{PASSWORD_QUOTED}@{path}?db=2"
    return url, partial(redis_server, "--unixsocket", str(path), "--requirepass", PASSWORD)


@contextmanager
def _started(make: Callable[[Path], tuple[str, Start]]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ttft-") as folder:
        url, start = make(Path(folder))
        with start():
            yield url


@pytest.fixture(scope="session")
def tls_url() -> Iterator[str]:
    """``behind_tls``, started."""
    with _started(behind_tls) as url:
        yield url


def wait_until(ready: Callable[[], bool], failure: str) -> None:
    """Fail the test with ``failure`` where that takes too long."""
    until = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > until:
            pytest.fail(failure)
        time.sleep(0.05)


@pytest.fixture(scope="session")
def cluster() -> Iterator[list[Server]]:
    """Three primaries without replicas that share the slots."""
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < 3:  # the cluster's bus listens 10,000 above
            port = free_port()
            if port < 55_000 and port not in ports:
                ports.append(port)
        settings = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
        nodes = [stack.enter_context(redis_server(*settings, port=port)) for port in ports]
        create = [require("redis-cli", "redis-tools"), "--cluster", "create", *(f"127.0.0.1:{port}" for port in ports)]
        subprocess.run([*create, "--cluster-yes"], check=True, timeout=30, stdout=subprocess.DEVNULL)
        wait_until(lambda: all(map(_in_order, ports)), "the cluster does not get in order")
        yield nodes


def _in_order(port: int) -> bool:
    with redis.Redis(port=port) as client:
        return bool(client.cluster("INFO").get("cluster_state") == "ok")


@dataclass(frozen=True)
class Sentinel:
    """A primary and its replica, watched by a sentinel that replaces a dead one within a second or two."""

    port: int
    servers: tuple[Server, Server]
    password: str = ""

    @property
    def url(self) -> str:
        """Of database 0."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.port}/mine/0"  # the first one is dead

    def primary(self) -> int:
        """The port of the server that the sentinel calls the primary."""
        with self.client() as client:
            return int(client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "mine")[1])

    def ready(self) -> bool:
        """Whether the sentinel knows a replica that it could promote."""
        with self.client() as client:
            return [replica["master-link-status"] for replica in client.sentinel_slaves("mine")] == ["ok"]

    def client(self) -> Any:
        """Of the sentinel itself."""
        return redis.Redis(port=self.port, password=self.password)


@contextmanager
def redis_sentinel(password: str = "", own_password: str = "") -> Iterator[Sentinel]:
    """All three, started; ``password`` is that of both servers, ``own_password`` the sentinel's."""
    program, port = require("redis-server", "redis-server"), free_port()
    wanted = ["--requirepass", password, "--masterauth", password] if password else []
    with ExitStack() as stack:
        first = stack.enter_context(redis_server(*wanted, "--repl-diskless-sync-delay", "0"))
        second = stack.enter_context(redis_server(*wanted, "--replicaof", "127.0.0.1", str(first.port)))
        with redis.Redis(port=second.port, password=password) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica does not connect")
        lines = ["bind 127.0.0.1", f"port {port}", f"sentinel monitor mine 127.0.0.1 {first.port} 1"]
        lines += ["sentinel down-after-milliseconds mine 300", "sentinel failover-timeout mine 2000"]
        lines += [f'sentinel auth-pass mine "{password}"'] if password else []
        lines += [f'requirepass "{own_password}"'] if own_password else []
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ttft-sentinel-")))
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        stack.enter_context(started([program, "sentinel.conf", "--sentinel"], folder, lambda: answers(port)))
        running = Sentinel(port, (first, second), own_password)
        wait_until(running.ready, "the sentinel finds no replica")
        yield running


@pytest.fixture(scope="session")
def sentinel() -> Iterator[Sentinel]:
    """For tests that leave all of it alive."""
    with redis_sentinel() as running:
        yield running


@pytest.fixture(scope="session")
def unix_url() -> Iterator[str]:
    """``at_a_socket``, started."""
    with _started(at_a_socket) as url:
        yield url
