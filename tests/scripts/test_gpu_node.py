"""``make gpu``, as far as it can run without a GPU: its plan, its limits, what it packs, and that it names nobody."""

import getpass
import json
import socket
import sys
import tarfile
from pathlib import Path

import gpu_node
import link_rate
import pytest
import torch
from gpu_node import BUDGET_S, Done, Planned


def test_the_plan_takes_less_than_its_budget() -> None:
    steps = gpu_node.plan(Path("out"))
    assert sum(step.limit_s for step in steps) <= BUDGET_S
    assert [step.name for step in steps] == ["doctor", "link", "tests", "paged", "compare", "peers"]


def test_the_comparisons_of_the_plan_are_ones_that_ttft_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from cli import app

    monkeypatch.setattr("harness.connector.peers.offloading.uses_gpu", lambda: True)
    for step in gpu_node.plan(tmp_path):
        if step.name in ("compare", "peers"):
            arguments = [*step.command[step.command.index("harness") + 1 :], "--dry-run", "--set", "dtype=float32"]
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, done.output


def test_a_dry_run_prints_every_step_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_node.main(["--dry-run", "--out", str(tmp_path / "new")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("driver", "reason"),
    [(None, "no NVIDIA driver"), ("550.54.15", "too old for CUDA 13"), ("580.65.06", "CPU build is installed")],
)
def test_what_is_missing_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], driver: str | None, reason: str
) -> None:
    monkeypatch.setattr("harness.core.machine.nvidia_driver", lambda: driver)
    monkeypatch.setattr("harness.core.machine.uses_gpu", lambda: False)
    assert gpu_node.main(["--out", str(tmp_path / "new")]) == 2
    assert reason in capsys.readouterr().out


def test_a_wrong_step_or_a_full_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_node.main(["--only", "nonsense"]) == 2
    assert "there is no step nonsense; the steps are doctor, link" in capsys.readouterr().out
    (tmp_path / "there").touch()
    assert gpu_node.main(["--out", str(tmp_path), "--without-gpu"]) == 2
    assert "is not empty" in capsys.readouterr().out


def step(name: str, code: str, limit_s: int = 20) -> Planned:
    return Planned(name, "a test", (sys.executable, "-c", code), limit_s)


def test_a_step_that_fails_or_hangs_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps = [step("bad", "raise SystemExit(3)"), step("hangs", "import time; time.sleep(60)", 1), step("good", "print('fine')")]
    assert gpu_node.measure(steps, out) == 1
    told = [Done(**one) for one in json.loads((out / "summary.json").read_text())]
    assert [(one.name, one.state) for one in told] == [("bad", "failed"), ("hangs", "ended"), ("good", "ok")]
    assert told[0].code == 3
    assert "fine" in (out / "good.log").read_text()


def test_what_is_packed_names_neither_the_machine_nor_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-node-17")
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    out = tmp_path / "out"
    assert gpu_node.measure([step("says", "print('gpu-node-17 /home/somebody/kv somebody')")], out) == 0
    with tarfile.open(out.with_name("out.tar.gz")) as archive:
        assert {"out/says.log", "out/summary.json"} <= set(archive.getnames())
        file = archive.extractfile("out/says.log")
        assert file is not None
        assert file.read().decode().strip() == "HOST ~/kv USER"


def test_the_link_rate_copies_what_it_says_by_every_way() -> None:
    source, target = torch.arange(256, dtype=torch.uint8).view(16, 16), torch.zeros(16, 16, dtype=torch.uint8)
    order = list(reversed(range(16)))
    link_rate.one_by_one(target, source, order)
    assert torch.equal(target, source.flip(0))
    found = link_rate.measured(1 << 20, torch.device("cpu"))
    assert set(found["by_block_kib"]) == {"8", "64", "256"}
    assert found["one_copy_gib_s"] > 0
