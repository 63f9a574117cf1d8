"""Everything that only a node with an NVIDIA GPU can show, in one command and under 15 minutes; packs a folder to send.

    make gpu        or        .venv/bin/python scripts/gpu_node.py [--out FOLDER] [--only STEP ...] [--dry-run]

A step that fails or takes too long is noted, and the next one begins. What comes out: FOLDER with a log per step, the results
of the comparisons and summary.json, and beside it FOLDER.tar.gz. Nothing in it names this machine or holds a secret: host
name and the user's folders are replaced.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUDGET_S = 15 * 60
_TEXT = (".txt", ".json", ".jsonl", ".log", ".csv", ".md", ".toml", ".html", ".svg")


@dataclass(frozen=True)
class Planned:
    """One step: a command in the project's folder, and the seconds after which it is ended."""

    name: str
    why: str
    command: tuple[str, ...]
    limit_s: int


@dataclass(frozen=True)
class Done:
    """What became of a step. ``state``: ok, failed (with its exit code) or ended (it took too long)."""

    name: str
    state: str
    code: int | None
    seconds: float


def plan(out: Path) -> list[Planned]:
    """The steps in order of value: what is cut off at the end is missed least. Their limits are the budget together."""
    python = str(ROOT / ".venv" / "bin" / "python")
    ttft = (python, "-m", "harness")
    few = ("--pairs", "4", "--set", "correctness_prompts=1", "--set", "recompute_rounds=1")
    store = ("--store", f"file://{tempfile.gettempdir()}/ttft-gpu")  # peers keep their files beside it, and ours are deleted
    arms = (*store, "--arm", "chunkwise:pool=8", "--arm", "layerwise:depth=4", "--arm", "lmcache", "--arm", "offloading")
    return [
        Planned("doctor", "what this node is", (*ttft, "doctor"), 30),
        Planned("link", "the link's rate by size of a block", (python, "scripts/link_rate.py"), 60),
        Planned("tests", "tests that need a GPU", (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"), 150),
        Planned("paged", "engines beside a bare copy", (python, "benchmarks/paged_rate.py"), 60),
        Planned("compare", "our engines, built-in model", (*ttft, "compare", *few, "--out", str(out / "compare")), 270),
        Planned("peers", "peers beside ours", (*ttft, "compare", *arms, *few, "--no-bounds", "--out", str(out / "peers")), 330),
    ]


def carry_out(step: Planned, out: Path) -> Done:
    """Run one step with its output in ``<name>.log``; at its limit its whole process group is ended, with Ctrl-C at first."""
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_NO_USAGE_STATS": "1"}
    with (out / f"{step.name}.log").open("wb") as log:
        process = subprocess.Popen(step.command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        state = ""
        for ending in (None, signal.SIGINT, signal.SIGKILL):
            if ending is not None:
                state = "ended"
                os.killpg(process.pid, ending)
            try:
                process.wait(step.limit_s if ending is None else 20)
                break
            except subprocess.TimeoutExpired:
                continue
    code = process.returncode
    return Done(step.name, state or ("ok" if code == 0 else "failed"), code, round(time.monotonic() - start, 1))


def anonymous(out: Path) -> None:
    """Replace what names this machine or its user in every text file of the folder."""
    words = {str(Path.home()): "~", str(ROOT): "TTFT", socket.gethostname(): "HOST", getpass.getuser(): "USER"}
    named = {word: other for word, other in words.items() if len(word) > 4}  # "root" or "/" would spoil other words
    for path in out.rglob("*"):
        if path.is_file() and path.suffix in _TEXT:
            text = path.read_text(encoding="utf-8", errors="replace")
            for word in sorted(named, key=len, reverse=True):
                text = text.replace(word, named[word])
            path.write_text(text, encoding="utf-8")


def pack(out: Path) -> Path:
    """The folder as ``<folder>.tar.gz`` beside it."""
    archive = out.with_name(out.name + ".tar.gz")
    with tarfile.open(archive, "w:gz") as file:
        file.add(out, arcname=out.name)
    return archive


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry the steps out. Returns 0, 1 where a step failed, 2 where nothing can be done here."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = Path("results") / f"gpu-{datetime.now():%Y%m%d-%H%M%S}"
    parser.add_argument("--out", type=Path, default=default, help="a new folder [default: results/gpu-<time>]")
    parser.add_argument("--only", action="append", default=[], metavar="STEP", help="this step alone; may be given several times")
    parser.add_argument("--dry-run", action="store_true", help="print the steps and stop")
    parser.add_argument("--without-gpu", action="store_true", help="try the script itself: begin without an NVIDIA driver too")
    given = parser.parse_args(arguments)
    steps = plan(given.out)
    unknown = [name for name in given.only if name not in {step.name for step in steps}]
    if unknown:
        print(f"there is no step {unknown[0]}; the steps are {', '.join(step.name for step in steps)}")
        return 2
    steps = [step for step in steps if not given.only or step.name in given.only]
    if given.dry_run:
        for step in steps:
            print(f"{step.name:8} {step.limit_s:4} s  {step.why}: {' '.join(step.command)}")
        return 0
    if given.out.exists() and any(given.out.iterdir()):
        print(f"{given.out} is not empty; give another --out")
        return 2
    if not given.without_gpu and (reason := no_gpu()):
        print(reason)
        return 2
    return measure(steps, given.out)


def no_gpu() -> str:
    """Why nothing can be measured here, in one sentence; empty on a node with a GPU that vLLM will use."""
    sys.path.insert(0, str(ROOT))
    from harness.core.machine import driver_too_old, nvidia_driver, uses_gpu

    driver = nvidia_driver()
    if driver is None:
        return "there is no NVIDIA driver here; run this on a node with a GPU, or see what it does with --dry-run"
    if old := driver_too_old(driver):
        return old
    return "" if uses_gpu() else "vLLM's CPU build is installed beside a GPU; run make clean, then make setup"


def measure(steps: Sequence[Planned], out: Path) -> int:
    """All steps, the summary and the archive, with a line each. Returns the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    done: list[Done] = []
    for step in steps:
        print(f"{step.name}: {step.why}, {step.limit_s} s at most ... ", end="", flush=True)
        done.append(carry_out(step, out))
        print(f"{done[-1].state}, {done[-1].seconds:.0f} s", flush=True)
    (out / "summary.json").write_text(json.dumps([asdict(one) for one in done], indent=2) + "\n", encoding="utf-8")
    anonymous(out)
    print(f"to send: {pack(out)}")
    return 0 if all(one.state == "ok" for one in done) else 1


if __name__ == "__main__":
    sys.exit(main())
