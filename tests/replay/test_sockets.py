"""The folder that vLLM's sockets are put in."""

import os
import tempfile
from pathlib import Path

import pytest

from harness.replay import sockets
from harness.replay.sockets import SOCKETS, own_sockets


def test_a_second_engine_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKETS, raising=False)
    first = own_sockets()
    second = own_sockets()  # ours from an earlier start is no wish of the user's
    folder = os.environ[SOCKETS]
    first.close()
    assert os.environ[SOCKETS] == folder and Path(folder).is_dir()
    second.close()
    assert SOCKETS not in os.environ


def test_a_folder_of_the_users_is_left_to_him(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SOCKETS, "/run/of/the/user")
    own_sockets().close()
    assert os.environ[SOCKETS] == "/run/of/the/user"


def test_no_socket_gets_too_long_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKETS, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sockets, "LONGEST", len(str(tmp_path)))
    own_sockets().close()
    assert SOCKETS not in os.environ
    assert list(tmp_path.iterdir()) == []
