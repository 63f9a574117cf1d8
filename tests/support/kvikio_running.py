"""Where KvikIO can work: marks for the tests that need it."""

import importlib.util

import pytest
import torch

from harness.core import machine

_PACKAGE = pytest.mark.skipif(importlib.util.find_spec("kvikio") is None, reason="needs kvikio: pip install 'ttft[gds]'")

needs_kvikio = [
    pytest.mark.gpu,
    pytest.mark.skipif(machine.nvidia_driver() is None, reason="needs an NVIDIA driver"),
    _PACKAGE,
]
"""Reads into host memory."""

needs_kvikio_and_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    _PACKAGE,
]
"""Reads into a GPU's memory."""
