"""Processes end with whoever started them, and by signals that they inherited as ignored."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VLLM = "from harness.core.processes import end_with_owner as end; end(); print('up', flush=True); import time; time.sleep(600)"
WORKER = """
import sys, time
from harness.core.processes import end_by_signals
end_by_signals()
try:
    print("up", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    sys.exit(7)
"""
OWNER = f"""
import os, subprocess, sys, time
from harness.core.processes import OWNER, child_of
os.environ[OWNER] = str(os.getpid())
how = {{"preexec_fn": child_of(os.getpid())}} if sys.argv[1] == "child" else {{}}
code = {VLLM!r} if sys.argv[1] == "vllm" else "print('up', flush=True); import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **how)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def started(code: str, *words: str, prepare: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=prepare
    )


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    with process.stdout as out:
        return out.readline().strip()


def gone(pid: int) -> bool:
    """Within half a minute; a dead one that nobody has asked about counts."""
    for _ in range(3000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("kind", ["child", "vllm"])
def test_a_process_whose_owner_is_killed_without_a_word_is_gone(kind: str) -> None:
    owner = started(OWNER, kind)
    child = int(line_of(owner))
    owner.kill()
    owner.wait(10)
    assert gone(child)


def test_a_process_of_vllm_that_comes_up_after_its_owner_died_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait(10)
    monkeypatch.setenv("TTFT_OWNER", str(dead.pid))
    process = started(VLLM)
    assert line_of(process) == ""
    assert process.wait(30) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_were_inherited_as_ignored_end_it_as_ctrl_c_does(number: signal.Signals) -> None:
    """A shell has its background jobs ignore SIGINT, and nohup SIGHUP."""

    def ignore() -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)

    process = started(WORKER, prepare=ignore)
    assert line_of(process) == "up"
    process.send_signal(number)
    assert process.wait(30) == 7


@pytest.mark.parametrize("at_once", [True, False])
def test_one_interrupt_ends_a_call_that_blocks_a_loop(at_once: bool) -> None:
    body = (
        "import asyncio, contextlib, os, signal, sys\n"
        "from harness.core.processes import interrupted_at_once\n"
        "async def blocking():\n"
        f"    with interrupted_at_once() if {at_once} else contextlib.nullcontext():\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('went on')\n"
        "try:\n"
        "    asyncio.run(blocking())\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    done = subprocess.run([sys.executable, "-c", body], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:-1] == [*([] if at_once else ["went on"]), "interrupted True"]
