"""A real S3 server for tests: moto's, on a free loopback port. It takes any credentials until it is told to check them."""

import os
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from servers import answers, free_port, lacking, started

if TYPE_CHECKING:
    from obstore.store import S3Store

BUCKET = "kvstore"
SECRET = "s3cret-begins/that+must=never-be-seen"
IDENTITY = "AKIANEVERSEEN"
LOGIN = {"AWS_ACCESS_KEY_ID": IDENTITY, "AWS_SECRET_ACCESS_KEY": SECRET}

Signer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True)
class Server:
    """A running server with an empty bucket ``BUCKET``."""

    port: int
    process: "subprocess.Popen[bytes]"
    authority: Path | None = None
    """Of its certificate; None without TLS."""

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.port}"

    def fresh(self, options: str = "", port: int = 0) -> str:
        """The URL of a store that no other test has; ``port`` is that of something in front of the server."""
        address = self.endpoint.replace(str(self.port), str(port or self.port))
        return f"s3://{BUCKET}/tests/{uuid4().hex}?endpoint={address}&region=us-east-1{options}"

    def tell(self, path: str, method: str, data: bytes | None = None) -> None:
        """Send a request that is not signed."""
        headers = {"Content-Type": "application/octet-stream"}  # not a form, which the server would parse
        request = urllib.request.Request(f"{self.endpoint}/{path}", method=method, data=data, headers=headers)
        context = ssl.create_default_context(cafile=self.authority) if self.authority else None
        with urllib.request.urlopen(request, timeout=20, context=context) as reply:
            reply.read()

    def bucket(self, name: str = BUCKET) -> "S3Store":
        """obstore's own client, past our store."""
        from obstore.store import S3Store

        return S3Store(name, endpoint=self.endpoint, region="us-east-1", client_options={"allow_http": True})

    @contextmanager
    def checking_credentials(self) -> Iterator[None]:
        """Meanwhile it refuses whom it does not know, which is everybody."""
        self.tell("moto-api/reset-auth", "POST", b"0")
        try:
            yield
        finally:
            self.tell("moto-api/reset-auth", "POST", b"inf")


def _certificate(name: str, issuer: Signer | None) -> Signer:
    """An authority's without an ``issuer``, else that of the server at 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, SHA256()), key


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """PEM files of an authority, of a server's certificate that it signed, and of that one's key."""
    authority = _certificate("ttft test authority", None)
    own = _certificate("ttft test server", authority)
    paths = folder / "authority.pem", folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(authority[0].public_bytes(Encoding.PEM))
    paths[1].write_bytes(own[0].public_bytes(Encoding.PEM))
    paths[2].write_bytes(own[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@contextmanager
def s3_server(tls: bool = False, port: int = 0) -> Iterator[Server]:
    """A server that keeps everything in memory."""
    for package in ("moto", "flask", "obstore", "boto3"):
        if find_spec(package) is None:
            lacking(package, "pip install 'ttft[dev]'")
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="ttft-s3-") as folder:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        authority = None
        if tls:
            authority, certificate, key = certificates(Path(folder))
            command += ["-s", "-c", str(certificate), "-k", str(key)]
        with started(command, Path(folder), lambda: answers(port)) as process:
            server = Server(port, process, authority)
            server.tell(BUCKET, "PUT")
            yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """One for all tests; each uses a prefix of its own."""
    with s3_server() as running:
        yield running


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials in the environment, and nothing else of the user's that an S3 client would heed."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)


def told(error: BaseException) -> str:
    """The message of ``error``, which must be one line that gives nobody's credentials away."""
    message = str(error)
    assert not any(part in message for part in SECRET.split("/"))
    assert IDENTITY not in message
    assert "\n" not in message
    return message
