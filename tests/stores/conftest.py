"""Servers that tests of several files share: each starts once."""

from redis_running import cluster, server, tls_url
from s3_running import login, s3

__all__ = ["cluster", "login", "s3", "server", "tls_url"]
