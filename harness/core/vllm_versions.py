"""Which versions of vLLM this project works with, and all in which they differ for us. Nothing but the standard library.

vLLM calls its connector interface experimental, so each minor version is tested (scripts/vllm_versions.py; results in
docs/gpu.md). The connector's methods have had the same signatures since 0.28.
"""

import re
from typing import Any

TESTED = ("0.29", "0.30", "0.31", "0.32")
"""Minor versions, oldest first, that were tried on the CPU build; docs/gpu.md says by which tests."""

NEXT = "0.33"
"""The first minor version that was not: there is no CPU build of it. Its signatures were checked against its source
(tests/connector/test_vllm_class.py)."""


def minor_of(version: str) -> str:
    """``0.32.0+cpu`` is of ``0.32``; empty for what is no version."""
    found = re.match(r"(\d+\.\d+)(?![\d])", version)
    return found[1] if found else ""


def is_tested(version: str) -> bool:
    """Whether this version of vLLM is one of those tested."""
    return minor_of(version) in TESTED


def preemptions_of(metrics: Any) -> int | None:
    """How often vLLM preempted a request; None up to 0.29, which does not count that per request."""
    count: int | None = getattr(metrics, "num_preemptions", None)
    return count
