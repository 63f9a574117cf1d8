"""Where KvikIO can work: marks for the tests that need it; and a stand-in for what needs only its shape."""

import importlib.util
import os
from types import SimpleNamespace
from typing import Any

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


class _CuFile:
    """Reads files by POSIX calls, at once."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def fileno(self) -> int:
        return self._descriptor

    def pread(self, part: Any, size: int, offset: int) -> Any:
        done = os.preadv(self._descriptor, [part], offset)
        return SimpleNamespace(get=lambda: done)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> "_CuFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pretended_kvikio(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on gds stores open on any machine."""
    defaults = SimpleNamespace(set=lambda settings: None, is_compat_mode_preferred=lambda: True)
    pretended = SimpleNamespace(CuFile=_CuFile, defaults=defaults, CompatMode={"AUTO": 0, "ON": 1, "OFF": 2})
    monkeypatch.setattr("harness.stores.gds.kvikio_process._load", lambda: pretended)
