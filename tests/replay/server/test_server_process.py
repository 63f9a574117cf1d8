"""A server's process and its children: seen when they are up, gone when they are to be gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import free_port

from harness.core.errors import SetupError
from harness.replay.server.process import check_free, running

HEALTHY = """
import http.server, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), type("H", (http.server.BaseHTTPRequestHandler,), {
    "do_GET": lambda self: (self.send_response(200), self.end_headers()), "log_message": lambda *_: None})).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HEALTHY


def gone(pid: int) -> bool:
    """Whether the process is dead, or a zombie that nobody has waited for yet."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def child_in(log: Path) -> int:
    return int(log.read_text().split()[1])


@pytest.mark.parametrize("program", [HEALTHY, STUBBORN])
def test_it_is_seen_when_it_answers_and_ends_with_all_its_children(program: str, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with running([sys.executable, "-c", program, str(port)], os.environ, log) as server:
        assert server.until_ready("127.0.0.1", port)
        assert server.code() is None
        server.end(patience_s=0.2)
        assert server.code() is not None
    assert gone(child_in(log))


def test_one_that_ends_at_once_is_never_ready(tmp_path: Path) -> None:
    with running([sys.executable, "-c", "print('no'); raise SystemExit(3)"], os.environ, tmp_path / "log") as server:
        assert not server.until_ready("127.0.0.1", free_port())
        assert server.code() == 3
    assert (tmp_path / "log").read_text() == "no\n"


def test_an_exception_in_the_body_ends_it(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        running([sys.executable, "-c", "import time; time.sleep(600)"], os.environ, tmp_path / "log") as server,
    ):
        raise KeyboardInterrupt
    assert server.code() == -signal.SIGTERM


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    parent = (
        "import os, sys, time; from pathlib import Path; from harness.replay.server.process import running\n"
        f"with running([sys.executable, '-c', {HEALTHY!r}, '{port}'], os.environ, Path({str(log)!r})) as server:\n"
        f"    print(server.until_ready('127.0.0.1', {port}), server._process.pid, flush=True); time.sleep(600)\n"
    )
    started = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    ready, pid = started.stdout.readline().split()
    started.kill()
    started.communicate()
    assert ready == "True" and gone(int(pid))
    os.kill(child_in(log), signal.SIGKILL)  # vLLM ends its own children at SIGTERM; this stand-in does not


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            SetupError, match=rf"^nothing can be served at 127.0.0.1:{port} \(Address already in use\); give another"
        ):
            check_free("127.0.0.1", port)
    check_free("127.0.0.1", free_port())
