"""NIXL for tests: skips without its package."""

import importlib.util

import pytest
from servers import lacking


@pytest.fixture
def nixl() -> None:
    """For tests that need NIXL."""
    require_nixl()


def require_nixl() -> None:
    """Skip without NIXL; fail where servers are required."""
    if not any(importlib.util.find_spec(name) for name in ("nixl", "nixl_cu12", "nixl_cu13")):
        lacking("NIXL", "pip install 'ttft[nixl]'")
