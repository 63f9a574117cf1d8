"""The CI recipes: the shell one is run against a stand-in for `ttft`, the others have to call it."""

import os
import subprocess
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "ci"


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A `ttft` that notes its arguments, writes a verdict and exits with $CODE."""
    script = tmp_path / "ttft"
    script.write_text(
        '#!/usr/bin/env bash\nprintf "%s\\n" "$@" >"$NOTE"\n'
        '[[ $CODE == 2 ]] || echo "### verdict" >"$OUT/verdict.md"\nexit "$CODE"\n'
    )
    script.chmod(0o755)
    return script


def gate(tmp_path: Path, stand_in: Path, code: int, **more: str) -> tuple[int, str]:
    (tmp_path / "out").mkdir()
    own = {"TTFT": str(stand_in), "CODE": str(code), "NOTE": str(tmp_path / "note"), "OUT": str(tmp_path / "out")}
    inherited = {name: value for name, value in os.environ.items() if name not in ("GITHUB_STEP_SUMMARY", "STRICT")}
    done = subprocess.run([RECIPES / "gate.sh"], env={**inherited, **own, **more}, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 4), (130, 130)])
def test_the_exit_code_is_the_gates_but_undecided_goes_on(tmp_path: Path, stand_in: Path, code: int, expected: int) -> None:
    assert gate(tmp_path, stand_in, code)[0] == expected


def test_undecided_is_said_and_can_be_made_strict(tmp_path: Path, stand_in: Path) -> None:
    code, said = gate(tmp_path, stand_in, 3, STRICT="1")
    assert (code, said) == (3, "")


def test_what_is_asked_for_reaches_the_command(tmp_path: Path, stand_in: Path) -> None:
    gate(tmp_path, stand_in, 0, CANDIDATE="mine:x=1", BASE="layerwise", MARGIN="p95:7%", BUDGET="3m", EXPERIMENT="disk")
    words = (tmp_path / "note").read_text().splitlines()
    assert words[:2] == ["gate", "--run"]
    given = dict(zip(words[1::2], words[2::2], strict=True))
    assert given == {
        "--run": "disk", "--candidate": "mine:x=1", "--base": "layerwise", "--max": "p95:7%", "--budget": "3m",
        "--out": str(tmp_path / "out"), "--history": "results/history.csv",
    }  # fmt: skip


def test_the_verdict_becomes_the_step_summary(tmp_path: Path, stand_in: Path) -> None:
    summary = tmp_path / "summary.md"
    gate(tmp_path, stand_in, 1, GITHUB_STEP_SUMMARY=str(summary))
    assert summary.read_text() == "### verdict\n"


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_other_recipes_call_the_script_and_keep_its_files(name: str) -> None:
    yaml = pytest.importorskip("yaml")  # comes with vLLM
    text = (RECIPES / name).read_text(encoding="utf-8")
    yaml.safe_load(text)
    assert "examples/ci/gate.sh" in text and "make setup" in text and "results/gate" in text
