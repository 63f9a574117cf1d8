"""Servers that tests of several files share: each starts once; and a place with direct reads."""

from pathlib import Path

import pytest
from redis_running import cluster, sentinel, server, tls_url, unix_url
from s3_running import login, s3

from harness.core.errors import StoreUnavailable
from harness.stores.files.direct_io import DirectReader

__all__ = ["cluster", "login", "s3", "sentinel", "server", "tls_url", "unix_url"]


@pytest.fixture
def direct_path(tmp_path: Path) -> Path:
    """A place with direct reads; skips where temporary files have none."""
    try:
        DirectReader(tmp_path)
    except StoreUnavailable as error:
        pytest.skip(str(error))
    return tmp_path / "kv"
