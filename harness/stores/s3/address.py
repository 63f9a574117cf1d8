"""What an ``s3://`` URL says: which bucket, under which prefix, at which server. Never who: that is the environment's."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from harness.core.errors import UsageError

LOGIN_FIX = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment"

_SECRET = re.compile(r"access|key|secret|token|password|credential|profile", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*")
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_LONGEST_PREFIX = 800  # S3 takes names of 1,024 bytes; a key has up to 200


@dataclass(frozen=True)
class Place:
    """Where objects lie. ``prefix`` has no slash at either end and may be empty; so may ``endpoint``: Amazon's own then."""

    bucket: str
    prefix: str
    endpoint: str
    proxy: str = ""
    """``host:port`` of the proxy on the way, as the environment has it; empty: none."""

    @property
    def server(self) -> str:
        """For messages."""
        return self.endpoint or "Amazon S3"

    def __str__(self) -> str:
        through = f" through the proxy {self.proxy}" if self.proxy else ""
        return f"s3://{self.bucket}/{self.prefix} at {self.server}{through}"


def refuse_secrets(url: SplitResult, options: Mapping[str, str]) -> None:
    """Raises UsageError if a URL carries credentials; it quotes none of them. URLs end up in results, logs and shells."""
    # Anywhere: a secret of Amazon's may have a slash, where the host of a URL ends.
    if any("@" in part for part in (*url, *options.values())):
        raise UsageError(f"an s3 store takes no user or password in its URL, nor an '@'; {LOGIN_FIX}")
    for name in options:
        if _SECRET.search(name):
            raise UsageError(f"an s3 store takes no option '{name}', since URLs are written to results; {LOGIN_FIX}")


def place_of(url: SplitResult, endpoint: str) -> Place:
    """From a URL and its option ``endpoint``, or the usual environment variables if that is empty. Raises UsageError."""
    if not _BUCKET.fullmatch(url.netloc) or url.fragment:
        quoted = "that" if ":" in url.netloc else f"'{url.netloc}'"  # what has a colon may be half of a login
        raise UsageError(
            f"{quoted} is no bucket; write s3://bucket/prefix, a bucket of 3 to 255 letters, digits, dots and dashes, "
            "and name its server with ?endpoint=http://host:port"
        )
    prefix = unquote(url.path).strip("/")
    parts = prefix.split("/")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & {*parts} or len(prefix) > _LONGEST_PREFIX):
        raise UsageError(
            f"'{prefix}' is no prefix for objects; use at most {_LONGEST_PREFIX} letters, digits, '.', '_', '-', '=' and slashes"
        )
    server = _checked_endpoint(endpoint or _endpoint_of_environment())
    return Place(url.netloc, prefix, server, "" if is_loopback(server) else _shown(proxy_of_environment(server)))


def is_loopback(endpoint: str) -> bool:
    """Whether a server is on this machine."""
    host = urlsplit(endpoint).hostname or ""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def proxy_of_environment(endpoint: str) -> str:
    """The URL of the proxy that HTTP_PROXY and the like name for a server; empty: none."""
    parts = urlsplit(endpoint or "https://s3.amazonaws.com")
    named = getproxies_environment()
    if not parts.hostname or proxy_bypass(parts.hostname):
        return ""
    return named.get(parts.scheme) or named.get("all") or ""


def _shown(proxy: str) -> str:
    """Without user and password."""
    return proxy.rpartition("://")[2].rpartition("@")[2].rstrip("/")


def _endpoint_of_environment() -> str:
    return next(filter(None, (os.environ.get(name) for name in _ENDPOINT_VARIABLES)), "")


def _checked_endpoint(endpoint: str) -> str:
    if not endpoint:
        return ""
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        raise UsageError("endpoint is no address of a server; write endpoint=http://host:port") from None
    if "@" in endpoint or parts.query or parts.fragment:
        raise UsageError(f"an endpoint takes no user, password or options; write endpoint=http://host:port, and {LOGIN_FIX}")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not re.fullmatch(r"[!-~]+", endpoint):
        raise UsageError(f"endpoint={endpoint} is no address of a server; write endpoint=http://host:port or https://host:port")
    return endpoint.rstrip("/")
