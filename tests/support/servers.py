"""Real servers for tests: where a program is missing, its tests skip with the reason; in CI they fail instead."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

REQUIRED = "CI_REQUIRES_SERVERS"
"""Set to 1 where a missing server is a mistake: what CI skips, nobody tests."""

START_S = 20.0
_POLL_S = 0.02


def lacking(what: str, fix: str) -> None:
    """Skip the test for want of ``what``, saying how to get it; fail it where servers are required."""
    reason = f"{what} is not here; {fix}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED}=1 forbids to skip)")
    pytest.skip(reason)


def require(program: str, debian_package: str) -> str:
    """The path of ``program``; skips or fails where it is not installed."""
    path = shutil.which(program)
    if path is None:
        lacking(program, f"apt-get install {debian_package}")
    return path or ""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something listens on ``port`` of the loopback."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def started(command: Sequence[str], folder: Path, ready: Callable[[], bool]) -> Iterator["subprocess.Popen[bytes]"]:
    """The process of ``command``, working in ``folder``, from when it is ``ready`` on; killed at the end.

    What it prints is in ``folder/server.log``, and its last lines are in the failure when it does not start.
    """
    log = folder / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                tail = log.read_text(errors="replace")[-1000:]
                pytest.fail(f"{command[0]} did not start (exit status {process.poll()}): {tail}")
            time.sleep(_POLL_S)
        yield process
    finally:
        process.kill()
        process.wait()
