"""``ttft ab``: its exit codes, its files, and one clear sentence for every mistake."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from driving import ARM, BASE, HEAD, program
from repositories import git

import cli
from harness.commands import ab as command
from harness.experiment.lanes.lane import Program
from harness.experiment.lanes.versions import Version


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, the current folder."""
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "--quiet", "--initial-branch=main")
    (repo / "pyproject.toml").write_text("[project]\nname='p'\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "-m", "one")
    monkeypatch.chdir(repo)
    return repo


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the report, whose pictures take seconds."""
    monkeypatch.setattr(command, "show_if_any", lambda folder: None)


def scripted(monkeypatch: pytest.MonkeyPatch, **scripts: Any) -> list[Version]:
    """Have scripted workers take the place of what would be installed; the versions that were asked for."""
    versions: list[Version] = []

    def prepare(version: Version, workplace: Path, log: Path) -> Program:
        versions.append(version)
        return program(version.name, **scripts.get(version.name, {}))

    monkeypatch.setattr("harness.experiment.lanes.environment.prepare", prepare)
    return versions


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ttft", "ab", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return (ended.value.code if isinstance(ended.value.code, int) else 0), captured.out, captured.err


def measuring(tmp_path: Path, *more: str) -> list[str]:
    words = ["--base", "main", "--max", "p50:5%", "--pairs", "6", "--out", str(tmp_path / "run")]
    return [*words, "--store", f"file://{tmp_path / 'kv'}", *(more or ("--arm", ARM))]


@pytest.mark.parametrize(
    ("head", "code", "outcome"),
    [
        ({"ttft_s": 0.02}, 0, "PASS"),
        ({"ttft_s": 0.022}, 1, "FAIL"),
        ({"ttft_s": 0.021}, 3, "INCONCLUSIVE"),
        ({"tokens": "bb"}, 2, "REFUSED"),
    ],
)
def test_the_exit_code_is_the_verdicts(
    repo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    head: dict[str, Any],
    code: int,
    outcome: str,
) -> None:
    sides = scripted(monkeypatch, head=head)
    ended, out, err = run(capsys, monkeypatch, *measuring(tmp_path))
    assert (ended, err) == (code, "")
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert (verdict["outcome"], verdict["base"], verdict["candidate"]) == (outcome, f"{ARM}@base", f"{ARM}@head")
    assert verdict["alpha"] == 0.05
    assert outcome in out
    assert {file.name for file in (tmp_path / "run").iterdir()} >= {"junit.xml", "verdict.md", "requests.csv", "base", "head"}
    assert [(side.name, side.working_tree) for side in sides] == [(BASE, False), (HEAD, True)]


def test_each_arm_is_judged_on_its_share_and_the_gravest_decides(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, head={"slow": ARM})
    ended, _, _ = run(capsys, monkeypatch, *measuring(tmp_path, "--arm", "chunkwise:pool=8", "--arm", ARM))
    files = [tmp_path / "run" / f"verdict-{name}.json" for name in ("chunkwise-pool-8", "layerwise-depth-4")]
    verdicts = [json.loads(file.read_text()) for file in files]
    assert [verdict["outcome"] for verdict in verdicts] == ["PASS", "FAIL"]
    assert [verdict["alpha"] for verdict in verdicts] == [0.025, 0.025]
    assert ended == 1


def test_a_side_that_fails_leaves_no_verdict(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, head={"at": 2, "do": "crash"})
    ended, _, err = run(capsys, monkeypatch, *measuring(tmp_path))
    assert ended == 2
    assert err.startswith("error: the head ended with exit code 1 while in run")
    assert err.count("\n") == 1
    assert not (tmp_path / "run" / "verdict.json").exists()
    assert len((tmp_path / "run" / "requests.csv").read_text().splitlines()) > 12


def test_an_ab_run_is_not_resumed_by_compare(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would measure this one version under both names."""
    scripted(monkeypatch)
    run(capsys, monkeypatch, *measuring(tmp_path))
    monkeypatch.setattr(sys, "argv", ["ttft", "compare", "--resume", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "was measured by `ttft ab`, each version by its own code" in capsys.readouterr().err


def test_dry_run_names_both_sides_and_the_order(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = scripted(monkeypatch)
    ended, out, err = run(capsys, monkeypatch, *measuring(tmp_path), "--dry-run")
    assert (ended, err, sides) == (0, "", [])
    commit = git(repo, "rev-parse", "HEAD")[:12]
    assert f"base      main, {commit}, of ." in out
    assert f"head      working tree on {commit}, of ." in out
    assert f"12 in 6 rounds: {ARM}@base {ARM}@head, then backwards, ..." in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--max", "p50:5%"], "name the older version: --base GITREF, or --base-path FOLDER"),
        (["--base", "main"], "no margin is given"),
        (["--base", "main", "--max", "p50:0%"], "it must be above 0%"),
        (["--base", "main", "--max", "p50:5%", "--alpha", "2"], "alpha is 2"),
        (["--base", "v9", "--max", "p50:5%"], "--base v9: git knows no commit 'v9'"),
        (["--base", "main", "--head", "v9", "--max", "p50:5%"], "--head v9: git knows no commit"),
        (["--base", "main", "--max", "p50:5%", "--repo", "nowhere"], "--repo nowhere is not a folder"),
        (["--base", "main", "--max", "p50:5%", "--set", "colour=blue"], "unknown option of the experiment 'colour'"),
        (["nothing", "--base", "main", "--max", "p50:5%"], "unknown experiment 'nothing'"),
    ],
)
def test_every_mistake_is_one_sentence_and_starts_nothing(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    sides = scripted(monkeypatch)
    ended, _, err = run(capsys, monkeypatch, *words)
    assert (ended, sides) == (2, [])
    assert sentence in err
    assert (err.count("\n"), "Traceback" in err) == (1, False)
