"""``ttft compare`` and ``--resume`` over the stand-in engine: what is printed, and the exit code."""

import sys

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, MODEL, SHORT, Lab, Served, lab

import cli

__all__ = ["lab"]


@pytest.fixture
def command(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Command":
    return Command(lab, capsys, monkeypatch)


class Command:
    """Runs ``ttft compare`` on the lab's small experiment."""

    def __init__(self, lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._lab, self._capsys, self._monkeypatch = lab, capsys, monkeypatch

    def measure(self) -> tuple[int, str, str]:
        options = {"--workload": SHORT, "--store": self._lab.store_url, "--model": MODEL, "--dtype": "float32", "--pairs": "2"}
        words = [word for pair in options.items() for word in pair] + ["--arm", CHUNKWISE, "--arm", LAYERWISE]
        return self("--set", "chunk_tokens=16", "--out", str(self._lab.folder), *words)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        self._monkeypatch.setattr(sys, "argv", ["ttft", "compare", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(ended.value.code or 0), captured.out, captured.err


def test_a_comparison_ends_with_its_table_and_code_0(lab: Lab, command: Command) -> None:
    code, out, err = command.measure()
    assert (code, err) == (0, "")
    assert CHUNKWISE in out and LAYERWISE in out and "report.md" in out
    assert (lab.folder / "report.md").exists()


def test_a_run_that_is_void_ends_with_code_4_and_its_reason(lab: Lab, command: Command) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "cached_tokens", 0) if served.label == "1/2" else None
    code, out, err = command.measure()
    assert code == 4
    assert "1 run is void, the first (run 1, arm layerwise:depth=2): hit 0 tokens, but the workload implies 32" in err
    assert err.count("\n") == 1
    assert "report.md" in out


def test_an_interrupted_run_says_how_to_go_on_and_does_so_with_code_0(lab: Lab, command: Command) -> None:
    def interrupt(served: Served) -> None:
        if served.label == "3/1":
            raise KeyboardInterrupt

    lab.vllm.tamper = interrupt
    code, out, _ = command.measure()
    assert code == 130
    assert f"ttft compare --resume {lab.folder}" in out
    assert (lab.folder / "report.md").exists()
    lab.vllm.tamper = lambda served: None
    code, out, err = command("--resume", str(lab.folder))
    assert (code, err) == (0, ""), "an interruption is not a proof that failed"
    run = lab.run()
    assert run.meta["status"] == "complete"
    assert run.void_runs == dict.fromkeys(range(4), "interrupted"), "the whole round is measured again"
    assert len(run.counted) == 8 * 4


def test_there_is_nothing_to_resume_in_a_complete_run(lab: Lab, command: Command) -> None:
    command.measure()
    started = len(lab.vllm.engines)
    code, _, err = command("--resume", str(lab.folder))
    assert code == 2
    assert "has all of its runs, so nothing is left to measure" in err and err.count("\n") == 1
    assert len(lab.vllm.engines) == started


def test_another_store_is_refused_when_resuming(lab: Lab, command: Command) -> None:
    command.measure()
    code, _, err = command("--resume", str(lab.folder), "--store", f"file://{lab.home / 'other'}")
    assert code == 2
    assert "cannot be resumed: its store is" in err and err.count("\n") == 1
    assert not (lab.home / "other").exists()


def test_a_failure_reports_what_was_measured_and_its_own_sentence(lab: Lab, command: Command) -> None:
    def lose(served: Served) -> None:
        if served.label == "2/3":
            with lab.open() as store:
                store.delete(list(store.keys()))

    lab.vllm.tamper = lose
    code, _, err = command.measure()
    assert code == 2
    assert "there is no object" in err and err.count("\n") == 1
    assert (lab.folder / "report.md").exists()
    assert lab.run().meta["status"] == "partial"
