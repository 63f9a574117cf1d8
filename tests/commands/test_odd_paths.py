"""Paths that no file can have, whichever command is given one: one sentence, never a traceback."""

import sys
from pathlib import Path

import pytest

import cli

JUDGED = ("--max", "p50:5%", "--base", "a", "--candidate", "b")
COMMANDS = {
    "report": ("report", "{}"),
    "explain": ("explain", "{}"),
    "timeline": ("timeline", "{}"),
    "gate": ("gate", "{}", *JUDGED),
    "trend": ("trend", "{}"),
    "sweep --report": ("sweep", "--report", "{}"),
    "compare --resume": ("compare", "--resume", "{}"),
    "compare --out": ("compare", "--dry-run", "--out", "{}/new"),
    "compare --model": ("compare", "--dry-run", "--model", "{}/model"),
    "compare of a file": ("compare", "{}/new.toml", "--dry-run"),
    "a trace": ("workload", "show", "jsonl:path={}"),
    "serve --out": ("serve", "--dry-run", "--out", "{}/new"),
    "tune --out": ("tune", "--dry-run", "--store", "mem://x", "--out", "{}/new"),
    "calibrate --from": ("calibrate", "--from", "{}"),
    "predict --from": ("predict", "--from", "{}"),
    "store check": ("store", "check", "file://{}/kv"),
}
PATHS = {"too long": "n" * 300, "a loop": "loop"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_cannot_be_is_one_sentence(
    command: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ttft", *(word.format(tmp_path / PATHS[path]) for word in COMMANDS[command])])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert said.count("\n") <= 1 and len(said) < 700 and "Traceback" not in said
    assert ended.value.code == 2 or not said  # a plan may not look at the folder that it would make
