"""What a URL says of a Redis server: where it is, and how to log in."""

import os
import re
import ssl
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import SplitResult, unquote

from harness.core.errors import UsageError
from harness.stores.redis.protocol import Request, command

PASSWORD_VARIABLE = "TTFT_REDIS_PASSWORD"

_PORT = 6379


class Address(NamedTuple):
    """Of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Login:
    """What every connection needs. Without ``tls`` it is in the clear."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None
    timeout_s: float = 5.0
    authority: str = ""
    """The PEM file that ``tls`` trusts; empty: the system's."""
    client_cert: str = ""
    """The PEM file of our own certificate and its key; empty: none."""

    def requests(self) -> list[Request]:
        """Commands that make a new connection ours; PING proves that the server lets us in."""
        commands = []
        if self.password:
            who = (self.username, self.password) if self.username else (self.password,)
            commands.append(command("AUTH", *who))
        if self.database:
            commands.append(command("SELECT", self.database))
        return [Request(item) for item in (*commands, command("PING"))]


def address_of(url: SplitResult) -> Address:
    """Of the server that a URL names. Raises UsageError, which quotes nothing: what is wrong may be a password's."""
    try:
        port = url.port
        (url.hostname or "").encode("idna")  # what the socket module does, with an error of its own
    except ValueError:
        port = 0
    if not url.hostname or port == 0 or "@" in url.query or url.fragment or not re.fullmatch(r"/?|/\d{1,5}", url.path):
        raise UsageError(
            f"that is no address of a Redis server; write {url.scheme}://user:password@host:port/database, "
            f"and in a password %2F for /, %3F for ?, %23 for # and %40 for @, or put it into {PASSWORD_VARIABLE}"
        )
    return Address(url.hostname, port or _PORT)


def login_of(url: SplitResult, timeout_s: float, authority: str | None, client_cert: str = "") -> Login:
    """From a URL. ``authority`` is None without TLS, else a PEM file, or empty. Raises UsageError."""
    context = None
    if authority is not None:
        try:
            context = ssl.create_default_context(cafile=authority or None)
        except OSError as error:  # ssl.SSLError is one
            raise UsageError(f"ca={authority} is no file of certificates: {error.strerror or error}; name a PEM file") from None
        if client_cert:
            try:
                context.load_cert_chain(client_cert, password="")  # an encrypted key would ask at the terminal
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UsageError(
                    f"client_cert={client_cert} holds no certificate with its private key: {reason}; "
                    "name a PEM file of both, the key not encrypted"
                ) from None
    return Login(
        username=unquote(url.username or ""),
        password=unquote(url.password or "") or os.environ.get(PASSWORD_VARIABLE, ""),
        database=int(url.path.strip("/") or 0),
        tls=context,
        timeout_s=timeout_s,
        authority=authority or "",
        client_cert=client_cert,
    )
