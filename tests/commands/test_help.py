"""Help that is whole, and what is missing named with what there is."""

import sys

import pytest
import typer

import cli
from harness.commands.app import app


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ttft", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("group", [[], ["store"], ["workload"]])
def test_no_summary_of_a_command_is_cut_off(
    group: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(capsys, monkeypatch, *group, "--help")
    summaries = out.partition("Commands:")[2].strip().splitlines()
    assert summaries and [line for line in summaries if line.endswith(".")] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [(["list"], "name what to list: engines, peers, "), (["report"], "name a measurement's folder to report on")],
)
def test_what_is_missing_is_named_with_what_there_is(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, monkeypatch, *words)
    assert (code, out) == (2, "") and err.startswith(f"error: {said}") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ttft tu", ["tune"]),
        ("ttft list w", ["workloads"]),
        ("ttft compare r0", ["r01-pool-direct-io"]),
        ("ttft store ", ["bench"]),
    ],
)
def test_the_shell_completes(
    typed: str, offered: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_TTFT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    monkeypatch.setattr(sys, "argv", ["ttft"])
    with pytest.raises(SystemExit):
        typer.main.get_command(app)(prog_name="ttft")
    assert set(offered) <= set(capsys.readouterr().out.split())
