"""The commands of the README and the docs: each `ttft` one is understood, and what needs no vLLM is run."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from foreign_files import vllm_bench

import cli
from harness.experiment.settings import merge
from harness.gate import refused
from harness.gate.history import append, rows_of
from harness.results import load
from harness.testing.runs import write_synthetic_run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[str]:
    """Calls of ttft, without comments: those in blocks, and those in the text that are whole, without a placeholder."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        lines += [re.split(r"\s{4}", line.strip())[0] for line in re.findall(r"^    ttft .*[^\\]$", text, re.MULTILINE)]
        inline = re.findall(r"`(ttft [a-z]+ [^`\n]+)`", text)
        lines += [call for call in inline if re.search(r"=|results/", call) and not re.search(r"\b[A-Z]{3}|\.\.\.", call)]
        calls = [re.split(r"\s+#\s", line)[0].strip() for line in lines]
        found |= {call.removeprefix(".venv/bin/"): None for call in calls if re.match(r"(\S*/)?ttft ", call)}
    return list(found)


def _pretend_that_stores_and_servers_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run asks them; those of the docs are somebody else's."""
    for module in ("preflight", "sweep"):
        monkeypatch.setattr(f"harness.commands.{module}.store_line", lambda *_: "store     is there")
    monkeypatch.setattr("harness.commands.preflight._target_line", lambda *given, **named: "target    answers")


TRACE = f'{{"timestamp": 0, "input_length": 4096, "output_length": 5, "hash_ids": {list(range(8))}}}\n'


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_docs_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("trace.jsonl", "conversation_trace.jsonl"):
        (tmp_path / name).write_text(TRACE * 3)
    shutil.copytree(ROOT / "tests" / "data" / "traces", tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "results" / "reference")
    arms = ["chunkwise:pool=8", "layerwise:depth=4", "floor"]
    write_synthetic_run(tmp_path / "results" / "NAME", arms=arms, rounds=8, prompts=12, mean_s={arms[0]: 0.5, arms[1]: 0.4})
    verdict = refused(arms[1], arms[0], [], 0.05)
    rows = rows_of(verdict, {"p50": 0.05}, load(tmp_path / "results" / "NAME"))
    append(tmp_path / "history.csv", [{**rows[0], "outcome": "PASS", "ratio": 0.9}])
    for run, name in enumerate(f"{side}{number}.json" for number in range(4) for side in ("base", "new")):
        vllm_bench(tmp_path / name, [0.1 + 0.0001 * run + 0.001 * number for number in range(20)])
    words = shlex.split(command)[1:]
    if words[0] == "--install-completion":
        pytest.skip("writes into the user's shell's own files")
    if "--resume" in words:
        pytest.skip("needs vLLM; tests/e2e/test_comparison.py resumes a run")
    if words[0] == "ab":
        (tmp_path / "my-engine").mkdir()
        monkeypatch.setattr("harness.experiment.lanes.versions._commit", lambda folder, ref: 40 * "c")
    if words[0] in ("ab", "compare", "calibrate", "serve", "sweep", "tune") or "--run" in words:
        words.append("--dry-run")
        _pretend_that_stores_and_servers_are_there(monkeypatch)
        if "--model" in words:  # a hub's model needs the hub; the rest of the command is still read
            words[words.index("--model") + 1] = "builtin"
    if words[0] == "export" and ":" in words[-1]:
        pytest.skip("needs a server; tests/reporting/exports send to one")
    if words[0] == "store":  # no server, and not for minutes
        words[2] = f"file://{tmp_path}/kv"
        words += ["--quick", "--sizes", "4KiB,8KiB", "--rounds", "2", "--no-limit"] if words[1] == "bench" else []
    monkeypatch.setattr(sys, "argv", ["ttft", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None), capsys.readouterr()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_anchors_are_headings() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            there = (page.parent / target).resolve() if target else page
            assert anchor in anchors(there), f"{page.name} links to #{anchor} of {there.name}"


def test_the_architecture_names_files_and_rooms_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?!tests/)[a-z_]+/[a-z_]+\.py)`", text)
    assert files and [name for name in files if not (ROOT / "harness" / name).is_file()] == []
    rooms = re.findall(r"^\| `([a-z.]+?)/?` \|", text, re.MULTILINE)
    there = {path.name for path in (ROOT / "harness").iterdir()} - {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
    assert set(rooms) == there


def test_the_makefile_has_the_two_commands_of_the_readme() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("compare", "test"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile


def test_the_default_experiment_has_six_pairs_at_least() -> None:
    from harness.experiment.settings import read_experiment

    assert merge(read_experiment("default")).pairs >= 6
