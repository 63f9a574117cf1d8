"""The CI recipes: the shell one is run against a stand-in for `ttft`, the others have to call it."""

import json
import os
import re
import shutil
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
    (tmp_path / "out").mkdir(exist_ok=True)
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


def test_several_bounds_and_another_workload_reach_the_command(tmp_path: Path, stand_in: Path) -> None:
    gate(tmp_path, stand_in, 0, MARGIN="p50:5% p95:800ms", WORKLOAD="shared_prefix:prompts=20", STORE="mem://kv")
    words = (tmp_path / "note").read_text().splitlines()
    assert [words[at + 1] for at, word in enumerate(words) if word == "--max"] == ["p50:5%", "p95:800ms"]
    assert words[words.index("--workload") + 1] == "shared_prefix:prompts=20" and words[words.index("--store") + 1] == "mem://kv"
    gate(tmp_path, stand_in, 0, MARGIN="p95:800ms")
    assert "--history" not in (tmp_path / "note").read_text(), "a history keeps ratios only"


def empty_repository(tmp_path: Path, **more: str) -> tuple[int, str]:
    """The script alone, in an empty folder; no ttft on the path, and none in the environment."""
    here = tmp_path / "repository"
    here.mkdir(exist_ok=True)
    shutil.copy(RECIPES / "gate.sh", here)
    keep = {name: value for name, value in os.environ.items() if name in ("HOME", "TMPDIR")}
    own = {"PATH": "/usr/bin:/bin", "OUT": "results/gate", "CODE": "0", "NOTE": str(tmp_path / "note")}
    done = subprocess.run(["./gate.sh"], cwd=here, env=keep | own | more, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_an_empty_repository_fetches_and_installs_the_harness(tmp_path: Path, stand_in: Path) -> None:
    """From a Git repository with the harness's layout, whose set-up here installs the stand-in."""
    source = tmp_path / "source"
    (source / "harness").mkdir(parents=True)
    (source / "harness" / "__init__.py").touch()
    stand_in.write_text(stand_in.read_text().replace('>"$OUT', '>/dev/null #"$OUT'))
    (source / "Makefile").write_text(f"setup:\n\t@mkdir -p .venv/bin; cp {stand_in} .venv/bin/ttft; echo set up\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(source)]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    for _ in range(2):  # the second finds what the first has fetched
        code, said = empty_repository(tmp_path, TTFT_SOURCE=source.as_uri(), TTFT_REF="main")
        assert (code, said) == (0, "set up\n")
        assert (tmp_path / "note").read_text().startswith("gate\n--run\ndefault\n")


def test_without_a_harness_one_sentence_says_what_to_set(tmp_path: Path) -> None:
    code, said = empty_repository(tmp_path)
    assert code == 2 and said.count("\n") == 1 and "set TTFT_SOURCE" in said


def test_the_other_recipes_need_nothing_of_the_repository_they_run_in() -> None:
    yaml = pytest.importorskip("yaml")  # comes with vLLM
    github, gitlab = (yaml.safe_load((RECIPES / name).read_text("utf-8")) for name in ("github-actions.yml", "gitlab-ci.yml"))
    action = yaml.safe_load((RECIPES.parents[1] / "action.yml").read_text("utf-8"))
    [job] = github["jobs"].values()
    [used] = [step for step in job["steps"] if step["uses"].startswith("OWNER/ttft@")]
    assert set(used["with"]) <= set(action["inputs"])
    [gated] = [step for step in action["runs"]["steps"] if "examples/ci/gate.sh" in step.get("run", "")]
    assert set(gated["env"]) <= set(re.findall(r"\$\{([A-Z]+)", (RECIPES / "gate.sh").read_text("utf-8")))
    asked = set(re.findall(r"inputs\.([a-z-]+)", json.dumps(action["runs"])))
    assert asked == set(action["inputs"]), "every input is used, and none that isn't there"
    assert gitlab["ttft-gate"]["script"] == [".ttft/examples/ci/gate.sh"]
    assert gitlab["ttft-gate"]["artifacts"]["reports"]["junit"] == "results/gate/junit.xml"


def test_the_gitlab_component_passes_all_of_its_inputs_on() -> None:
    yaml = pytest.importorskip("yaml")  # comes with vLLM
    header, jobs = yaml.safe_load_all((RECIPES.parents[1] / "templates" / "ttft-gate.yml").read_text("utf-8"))
    action = yaml.safe_load((RECIPES.parents[1] / "action.yml").read_text("utf-8"))
    inputs = header["spec"]["inputs"]
    asked = set(re.findall(r"\$\[\[ inputs\.([a-z-]+) \]\]", json.dumps(jobs)))
    assert asked == set(inputs), "every input is used, and none that isn't there"
    shared = set(action["inputs"]) - {"python-version"}
    assert shared <= set(inputs), "the same as the action's, with the same defaults"
    assert {name: action["inputs"][name]["default"] for name in shared} == {name: inputs[name]["default"] for name in shared}
    [job] = jobs.values()
    known = set(re.findall(r"\$\{([A-Z_]+)", (RECIPES / "gate.sh").read_text("utf-8")))
    assert set(job["variables"]) <= known and job["script"] == [".ttft/examples/ci/gate.sh"]
    assert "git clone" in job["before_script"][-1] and job["artifacts"]["reports"]["junit"].endswith("/junit.xml")
