"""The address of a server, and where its key comes from."""

from urllib.parse import urlsplit

from harness.core.errors import UsageError
from harness.core.text import redact

KEYS = ("TTFT_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the server's key; the first that is set counts."""


def check_url(url: str, option: str = "--target ") -> str:
    """The server's address without what follows it. Raises UsageError; never repeats what may be a secret.

    ``option``: what gave it, in messages.
    """
    flag = option.rstrip(" :")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UsageError(f"{flag} has a wrong host or port; write for instance http://127.0.0.1:8000") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(f"{flag} takes http://HOST:PORT only; give a key as the environment variable {KEYS[0]}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{option}{redact(url)} is not the address of a server; write for instance http://127.0.0.1:8000")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
