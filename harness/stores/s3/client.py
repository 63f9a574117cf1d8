"""A client of one bucket, through obstore (Rust's object_store), and who it is: from the environment or AWS' files."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field

from harness.core.errors import SetupError, UsageError
from harness.stores.base import StoreOptions
from harness.stores.s3.address import LOGIN_FIX, Place, is_loopback, proxy_of_environment

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3CredentialProvider, S3Store


class S3Options(StoreOptions):
    """Options of ``s3``."""

    endpoint: str = Field("", description="http(s)://host:port of the server; empty: AWS_ENDPOINT_URL, or Amazon's own")
    region: str = Field("", pattern=r"^[a-z0-9-]{0,40}$", description="of the bucket; empty: AWS_REGION, or us-east-1")
    timeout_s: float = Field(10.0, gt=0, le=3600, description="seconds that a request may take, from connecting to the last byte")
    retries: int = Field(2, ge=0, le=10, description="more tries after a broken connection or HTTP 5xx, within timeout_s")
    concurrency: int = Field(32, ge=1, le=1024, description="requests in flight of one call, and of all blocking calls together")
    if_absent: bool = Field(False, description="publish only what is not there yet (If-None-Match); else replace it")
    virtual_hosted: bool = Field(False, description="the endpoint has the bucket in its host name")
    ca: str = Field("", description="PEM file of the authority that signed the server's certificate; empty: the system's")
    unsigned: bool = Field(False, description="ask without credentials, as for a public bucket")


def connect(place: Place, options: S3Options) -> "S3Store":
    """A client; it connects when it is used. Raises SetupError without obstore, UsageError without credentials."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        raise SetupError("s3 stores need the package obstore; install it: pip install 'ttft[s3]'") from None
    timeout = timedelta(seconds=options.timeout_s)
    config: S3Config = {"virtual_hosted_style_request": options.virtual_hosted, "skip_signature": options.unsigned}
    if place.endpoint:
        # The second would win if the environment has it, whatever the URL says.
        config["endpoint"] = config["aws_endpoint_url_s3"] = place.endpoint
    if options.region:
        config["region"] = options.region
    client: ClientConfig = {
        "allow_http": place.endpoint.startswith("http://"),
        "timeout": timeout,
        "connect_timeout": timeout,
        "user_agent": "ttft",
    }
    if is_loopback(place.endpoint) and (proxy := proxy_of_environment(place.endpoint)):
        # obstore heeds HTTP_PROXY for loopback as well; a proxy setting of its own with an exception avoids that.
        client["proxy_url"], client["proxy_excludes"] = proxy, urlsplit(place.endpoint).hostname or ""
    if options.ca:
        client["root_certificate"] = _certificates(options.ca)
    try:
        return S3Store(
            place.bucket,
            prefix=place.prefix or None,
            config=config,
            client_options=client,
            retry_config={"max_retries": options.retries, "retry_timeout": timeout},
            credential_provider=None if options.unsigned or _in_environment() else _from_aws_files(),
        )
    except (ValueError, BaseError) as error:
        if options.ca and "certificate" in str(error).lower():
            raise UsageError(f"ca={options.ca} holds no certificate; name a PEM file") from None
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"cannot set up {place}: {reason}; correct the URL or the AWS_ variables") from None


def _certificates(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"ca={path} is no file of certificates: {error.strerror}; name a PEM file") from None


def _in_environment() -> bool:
    """Whether obstore finds what it needs in variables. It does not look into AWS' files, where boto3 does."""
    return bool(os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"))


def _from_aws_files() -> "S3CredentialProvider":
    """The usual chain of AWS' tools: profiles, single sign-on, containers, instances."""
    try:
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise SetupError(
            "credentials from AWS' files need the package boto3; install it: pip install 'ttft[s3]', "
            "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
        ) from None
    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        # boto3 names the profile, or which of the two variables is missing; it shows no value.
        reason = str(error) if isinstance(error, BotoCoreError) else "found none"
        raise UsageError(f"no credentials for an s3 store: {reason}; {LOGIN_FIX}, or add unsigned=1") from None
