"""A target behind TLS: whose certificates are trusted, and what is wrong with one that does not fit."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from harness.core.errors import SetupError, UsageError

PATIENCE_S = 5.0
OTHER_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


def trusted(url: str, authority: str) -> ssl.SSLContext | None:
    """Whom to trust at ``url``: the certificates in the PEM file ``authority``, else the system's, or those that SSL_CERT_FILE
    names. None without TLS. Raises UsageError."""
    if urlsplit(url).scheme != "https":
        if authority:
            raise UsageError(
                f"target_ca={authority} is for a target behind TLS, and {url} is without; write https://, or remove it"
            )
        return None
    try:
        return ssl.create_default_context(cafile=authority or None)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or error
        raise UsageError(f"target_ca={authority} is no file of certificates: {reason}; name a PEM file") from None


async def distrust(url: str, error: aiohttp.ClientConnectorCertificateError, authority: str) -> SetupError:
    """What to raise for a certificate that was refused."""
    problem = error.certificate_error
    if isinstance(problem, ssl.SSLCertVerificationError) and problem.verify_code in OTHER_NAME:
        names = ", ".join(await _names(url, authority)) or "other names"
        return SetupError(
            f"the server at {url} has a certificate for {names}, not for {urlsplit(url).hostname}; give a name that it is for as "
            "--target, or have one issued for this name"
        )
    reason = getattr(problem, "verify_message", "") or str(problem)
    return SetupError(
        f"the certificate of the server at {url} is not trusted here ({reason}); name the PEM file of its authority with "
        "--set target_ca=/path/to/ca.pem"
    )


async def _names(url: str, authority: str) -> list[str]:
    """Whom the server's certificate is for, as far as its authority is trusted; empty if it does not say."""
    context = ssl.create_default_context(cafile=authority or None)
    context.check_hostname = False
    place = urlsplit(url)
    certificate: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(place.hostname, place.port or 443, ssl=context)
            certificate = writer.get_extra_info("peercert") or {}
            writer.transport.abort()
            await writer.wait_closed()  # or the loop ends before its socket is closed
    return [str(name) for _, name in certificate.get("subjectAltName", ())]
