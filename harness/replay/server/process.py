"""The server's process and all that it starts: up until it is ended, and gone with whoever started it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.core.errors import SetupError
from harness.core.processes import child_of

ENDING_S = 60.0
"""For vLLM to stop by itself; then its processes are killed."""
_POLL_S = 0.2


def check_free(host: str, port: int) -> None:
    """Raises SetupError where nothing can listen there: what answers would be another server."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise SetupError(
            f"nothing can be served at {host}:{port} ({error.strerror or error}); give another --port or --host"
        ) from error


class Server:
    """A process that serves HTTP, in a group of its own: Ctrl-C reaches whoever started it, who ends it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def until_ready(self, host: str, port: int) -> bool:
        """Wait until ``/health`` answers 200; False where the process ended instead."""
        while self.code() is None:
            if _healthy(host, port):
                return True
            time.sleep(_POLL_S)
        return False

    def until_ended(self) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait()

    def end(self, patience_s: float = ENDING_S) -> None:
        """Have it stop, then kill what is left of its group. Safe to call twice, and in the middle of a start."""
        try:
            if self.code() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience_s)
        finally:  # also where the user has no patience
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Server]:
    """The process of ``command``; what it prints is appended to ``log``. It is ended with the body."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            process_group=0,
            preexec_fn=child_of(os.getpid()),
        )
    server = Server(process)
    try:
        yield server
    finally:
        server.end()


def _healthy(host: str, port: int) -> bool:
    there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(there, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
