"""A server that a peer needs beside vLLM: on a free port of the loopback, in this process's group, and ended with it.

Being of the group, it is stopped while others are measured, as vLLM is. What it prints goes where this process's errors
go: ``worker.log``, beside ``vllm.log``.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.core.errors import SetupError
from harness.core.processes import child_of

START_S = 60.0
"""How long a server may take until it answers: one that imports torch needs some seconds, on a busy machine many."""
ENDING_S = 10.0
_POLL_S = 0.05


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something listens on ``port`` of the loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    patience_s: float = START_S,
) -> Iterator[int]:
    """The process id of ``command``, from when it is ``ready`` on; ended in any case.

    Raises SetupError if it ends before, or is not ready after ``patience_s``.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        stderr=2,
        env={**os.environ, **(environment or {})},
        preexec_fn=child_of(os.getpid()),
    )
    try:
        end = time.monotonic() + patience_s
        while not ready():
            if process.poll() is not None:
                raise SetupError(f"{name} ended with exit code {process.returncode} before it answered; worker.log says why")
            if time.monotonic() > end:
                raise SetupError(f"{name} does not answer after {patience_s:.0f} s; worker.log says what it is doing")
            time.sleep(_POLL_S)
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)
        process.kill()
        process.wait()
