"""What went wrong with a Redis server, as one sentence with what to do, whoever noticed it: we, redis-py or the server."""

import re
import socket

from harness.core.errors import StoreUnavailable, TtftError, UsageError
from harness.stores.redis.address import Address, Login
from harness.stores.redis.protocol import ProtocolViolation

_PASSWORD_FIX = "put the right one into {variable}{or_url}"
_USAGE: tuple[tuple[str, str], ...] = (
    (r"wrongpass|invalid (username-)?password", f"refuses the user or the password; {_PASSWORD_FIX}"),
    (r"noauth|authentication required", f"wants a password; {_PASSWORD_FIX}"),
    (
        r"password configured|no password is set",
        "has no password, but one was given; {take_out}unset {variable}",
    ),
    (
        r"db index is out of range|invalid db index|select is not allowed",
        "has no database {database}; name a lower number, or raise 'databases' in redis.conf (a cluster has only 0)",
    ),
    (r"unknown command .?sentinel", "is no sentinel; name sentinels (their port is 26379 mostly), or write redis://"),
    (r"is a sentinel", "is a sentinel; write redis+sentinel://{host}:port/name-of-the-primary"),
    (r"\bmoved\b", "is a node of a cluster; write redis+cluster:// (or rediss+cluster://)"),
    (r"cluster support disabled|cluster mode is not enabled", "is no cluster; write redis:// without +cluster"),
    (
        r"noperm|no permissions|has no permission",
        "does not let this user do that; allow its rights to read, write and scan with ACL SETUSER",
    ),
    (
        r"(hostname|ip address) mismatch",
        "has a certificate for other names than '{host}'; connect by a name that is in it, or have one issued for this name",
    ),
    (
        r"certificate.required|alert.certificate|handshake failure",
        "wants a certificate of ours that it trusts; name a PEM file of it and its key with client_cert=/path/to/client.pem",
    ),
    (
        r"certificate verify failed|certificate_verify_failed",
        "has a certificate that is not trusted here; name the file of its authority with ca=/path/to/ca.pem",
    ),
    (
        r"wrong.version.number|record.layer|packet.length.too.long",
        "does not speak TLS there; write redis:// in place of rediss://",
    ),
)
"""Mistakes of the user's: patterns in the lower-case text of an error, and what to say."""

_UNAVAILABLE: tuple[tuple[str, str], ...] = (
    (
        r"maxmemory",
        "is full (maxmemory) and must not evict; raise maxmemory, delete keys, or set a maxmemory-policy",
    ),
    (r"wrongtype", "keeps something else than a string under a key of ours; name another prefix with prefix="),
    (r"loading the dataset|\bloading\b", "is still loading its data; try again when it has finished"),
    (r"with replica instances", "is a replica now; try again when its sentinels have noticed"),
    (r"readonly|read only replica", "is a replica that takes no writes; name its primary"),
    (r"max number of clients", "has too many clients; raise maxclients in redis.conf, or lower connections="),
    (
        r"clusterdown|cluster is down|slots? (is |are )?not (covered|served)",
        "belongs to a cluster that is down; look at its nodes",
    ),
    (r"tim(ed|e) ?out", "did not answer within {timeout_s:g} s; see whether it is alive{speaks_tls}, or raise timeout_s="),
    (r"refused", "is not there: nothing listens {there}"),
    (r"no such file", "is not there: there is no such socket; see 'unixsocket' in redis.conf, or correct the path"),
    (r"permission denied", "does not let this user connect; see 'unixsocketperm' in redis.conf"),
    (
        r"closed|reset by peer|broken pipe|eof occurred",
        "closed the connection; see whether it is alive, and whether it wants {wants}",
    ),
)


def explain(error: Exception | str, address: Address, login: Login) -> StoreUnavailable:
    """What to raise for ``error``, which may also be the text of a server's refusal. No password is ever in it."""
    return StoreUnavailable(_sentence(error, address, login)[0])


def explain_opening(error: Exception | str, address: Address, login: Login) -> TtftError:
    """The same while a store is opened: UsageError for what only the user can fix."""
    sentence, users = _sentence(error, address, login)
    return UsageError(sentence) if users else StoreUnavailable(sentence)


def _sentence(error: Exception | str, address: Address, login: Login) -> tuple[str, bool]:
    """What to say, and whether it is a mistake of the user's."""
    kind = "sentinel" if login.to_sentinel else "redis server"
    server = f"the {kind} at {address}" + (f", which is the primary '{login.primary}' to its sentinels," if login.primary else "")
    if isinstance(error, socket.gaierror):
        return f"there is no host '{address.host}', where a {kind} should be; correct the name", True
    text = "timed out" if isinstance(error, TimeoutError) else str(error)  # some time-outs have no text
    for table in (_USAGE, _UNAVAILABLE):
        for pattern, sentence in table:
            if re.search(pattern, text.lower()):
                said = sentence.format(
                    host=address.host,
                    database=login.database,
                    timeout_s=login.timeout_s,
                    speaks_tls=" and speaks TLS" if login.tls else "",
                    wants="a certificate of ours (client_cert=)" if login.tls else "TLS (rediss://)",
                    there="on that socket; start it, or correct the path"
                    if address.is_path
                    else "at that port; start it, or correct host and port",
                    variable=login.password_variable,
                    or_url="" if login.to_sentinel else " or the URL (redis://user:password@host)",
                    take_out="" if login.to_sentinel else "take it out of the URL and ",
                )
                return f"{server} {said}", table is _USAGE
    shown = " ".join((text.replace(login.password, "***") if login.password else text).split()) or type(error).__name__
    if isinstance(error, ProtocolViolation):
        return f"what answers at {address} does not speak Redis' protocol: {shown}; correct host and port", False
    return f"{server} failed: {shown}; look into its log", False
