"""What a URL says of Redis servers: where they are, and how to log in."""

import os
import re
import ssl
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import SplitResult, unquote

from harness.core.errors import UsageError
from harness.stores.redis.protocol import Request, command

PASSWORD_VARIABLE = "TTFT_REDIS_PASSWORD"
SENTINEL_PASSWORD_VARIABLE = "TTFT_REDIS_SENTINEL_PASSWORD"

_PORT, _SENTINEL_PORT = 6379, 26379
_DATABASE = r"/?|/(?P<database>\d{1,5})"
_PRIMARY = r"/(?P<primary>[A-Za-z0-9._-]+)(/(?P<database>\d{1,5})?)?"
_LONGEST_PATH = 107  # of a Unix socket under Linux (unix(7))


class Address(NamedTuple):
    """Of one server: a host and a port, or the path of a Unix socket in place of the host."""

    host: str
    port: int = 0

    @property
    def is_path(self) -> bool:
        """Whether ``host`` is the path of a Unix socket."""
        return self.host.startswith("/")

    def __str__(self) -> str:
        if self.is_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Location:
    """What a URL names: a server, a node of a cluster, or the sentinels that know which server is the primary."""

    addresses: tuple[Address, ...]
    database: int = 0
    primary: str = ""
    """The name that the sentinels at ``addresses`` know the primary by; empty: ``addresses`` is the server itself."""

    def __str__(self) -> str:
        return f"the primary '{self.primary}'" if self.primary else f"the redis server at {self.addresses[0]}"


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
    primary: str = ""
    """The name by which sentinels know the server, which has to be the primary then; empty: it may be any."""
    to_sentinel: bool = False

    @property
    def password_variable(self) -> str:
        """Where the password belongs."""
        return SENTINEL_PASSWORD_VARIABLE if self.to_sentinel else PASSWORD_VARIABLE

    def of_sentinels(self) -> "Login":
        """The same for the sentinels, which have users and a password of their own, and no databases."""
        password = os.environ.get(SENTINEL_PASSWORD_VARIABLE, "")
        return replace(self, username="", password=password, database=0, primary="", to_sentinel=True)

    def requests(self) -> list[Request]:
        """Commands that make a new connection ours; PING proves that the server lets us in.

        WAIT for no replica at all does nothing on a primary and is an error on a replica, so that a primary that was
        demoted is noticed; ROLE would say the same, in an array.
        """
        commands = []
        if self.password:
            who = (self.username, self.password) if self.username else (self.password,)
            commands.append(command("AUTH", *who))
        if self.database:
            commands.append(command("SELECT", self.database))
        if self.primary:
            commands.append(command("WAIT", 0, 0))
        return [Request(item) for item in (*commands, command("PING"))]


def location_of(url: SplitResult, database: int = 0) -> Location:
    """Of what a URL names; ``database`` is for a Unix socket, whose path says none.

    Raises UsageError, which quotes nothing: what is wrong may be a password's.
    """
    scheme, _, variant = url.scheme.partition("+")
    if variant == "unix":
        path = unquote(url.path)
        if url.hostname or not 1 < len(path.encode(errors="surrogatepass")) <= _LONGEST_PATH or "@" in url.query or url.fragment:
            raise UsageError(
                f"that is no address of a Unix socket; write {url.scheme}://user:password@/path/to/redis.sock?db=0, "
                f"the path not longer than {_LONGEST_PATH} bytes"
            )
        return Location((Address(path),), database)
    if database:
        raise UsageError(f"db={database} is for redis+unix://; write the number behind the address: {scheme}://host/{database}")
    sentinels = variant == "sentinel"
    path_found = re.fullmatch(_PRIMARY if sentinels else _DATABASE, url.path)
    hosts = url.netloc.rpartition("@")[2].split(",") if sentinels else [url.netloc.rpartition("@")[2]]
    addresses = tuple(_address(host, _SENTINEL_PORT if sentinels else _PORT) for host in hosts)
    if None in addresses or path_found is None or "@" in url.query or url.fragment:
        shape = "host:port,host:port/name-of-the-primary/database" if sentinels else "host:port/database"
        raise UsageError(
            f"that is no address of {'Redis sentinels' if sentinels else 'a Redis server'}; "
            f"write {url.scheme}://user:password@{shape}, "
            f"and in a password %2F for /, %3F for ?, %23 for # and %40 for @, or put it into {PASSWORD_VARIABLE}"
        )
    groups = path_found.groupdict()
    return Location(
        tuple(address for address in addresses if address is not None),
        database=int(groups["database"] or 0),
        primary=groups.get("primary") or "",
    )


def _address(text: str, port: int) -> Address | None:
    """Of ``host[:port]``; None where it is none."""
    try:
        parts = SplitResult("", text, "", "", "")
        named = parts.port
        (parts.hostname or "").encode("idna")  # what the socket module does, with an error of its own
    except ValueError:
        return None
    return None if not parts.hostname or named == 0 else Address(parts.hostname, named or port)


def login_of(url: SplitResult, location: Location, timeout_s: float, authority: str | None, client_cert: str = "") -> Login:
    """From a URL and what it names. ``authority`` is None without TLS, else a PEM file, or empty. Raises UsageError."""
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
        database=location.database,
        tls=context,
        timeout_s=timeout_s,
        authority=authority or "",
        client_cert=client_cert,
        primary=location.primary,
    )
