"""Real Redis servers for tests, on free loopback ports: one in the clear, one with TLS and a password, a cluster of three."""

import datetime
import ipaddress
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        command = [require("redis-cli", "redis-tools"), "-p", str(self.port), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        assert expect in done.stdout, done.stdout + done.stderr


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


@pytest.fixture(scope="session")
def tls_url() -> Iterator[str]:
    """A server behind TLS that wants a password, with the option that makes its certificate trusted."""
    with tempfile.TemporaryDirectory(prefix="ttft-tls-") as folder, ExitStack() as stack:
        certificate, key = self_signed(Path(folder))
        port = free_port()
        tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        stack.enter_context(redis_server(*tls, "--tls-auth-clients", "no", "--requirepass", PASSWORD))
        yield f"rediss://:{PASSWORD_QUOTED}@127.0.0.1:{port}/1?ca={certificate}"


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
        until = time.monotonic() + START_S
        while not all(map(_in_order, ports)):
            if time.monotonic() > until:
                pytest.fail("the cluster does not get in order")
            time.sleep(0.05)
        yield nodes


def _in_order(port: int) -> bool:
    with redis.Redis(port=port) as client:
        return bool(client.cluster("INFO").get("cluster_state") == "ok")
