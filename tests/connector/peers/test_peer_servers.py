"""A process beside a peer's vLLM: there when it answers, gone in any case, and a failure says what to look at."""

import os
import sys
from pathlib import Path

import pytest

from harness.connector.peers.servers import answers, free_port, running
from harness.core.errors import SetupError

LISTENS = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_it_answers_inside_and_is_gone_afterwards() -> None:
    port = free_port()
    assert not answers(port)
    with running("it", [sys.executable, "-c", LISTENS, str(port)], lambda: answers(port)) as pid:
        assert answers(port)
        assert os.getpgid(pid) == os.getpgid(0)  # so that it is stopped with vLLM while others are measured
    assert not answers(port) and not alive(pid)


def test_it_is_gone_after_a_failure_inside() -> None:
    with pytest.raises(ZeroDivisionError), running("it", [sys.executable, "-c", "input(); 1"], lambda: True) as pid:
        raise ZeroDivisionError
    assert not alive(pid)


def test_one_that_heeds_no_signal_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("harness.connector.peers.servers.ENDING_S", 0.1)
    ready = tmp_path / "ready"
    deaf = "import signal, sys, pathlib, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    with running("it", [sys.executable, "-c", deaf, str(ready)], ready.exists) as pid:
        pass
    assert not alive(pid)


def test_one_that_ends_early_is_named() -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with (
        pytest.raises(SetupError, match=r"^Its server ended with exit code 3 before it answered; worker\.log says why$"),
        running("Its server", command, lambda: False),
    ):
        pass


def test_one_that_never_answers_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        pytest.raises(SetupError, match=r"^Its server does not answer after 0 s; "),
        running("Its server", command, lambda: False, patience_s=0.05),
    ):
        pass


def test_it_gets_variables_beside_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OURS", "1")
    write = "import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(os.environ['OURS'] + os.environ['ITS'])"
    file = tmp_path / "told"
    with running(
        "it", [sys.executable, "-c", write, str(file)], lambda: file.exists() and file.stat().st_size == 2, {"ITS": "2"}
    ):
        assert file.read_text() == "12"
