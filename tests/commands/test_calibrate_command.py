"""``ttft calibrate`` over the stand-in engine and from stored runs: what is measured, saved, printed, refused."""

import json
import sys
from pathlib import Path

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, MODEL, SHORT, Lab, Served, lab

import cli
from harness.gate.calibration import load
from harness.testing.runs import write_synthetic_run

__all__ = ["lab"]


class Command:
    """Runs ``ttft`` and keeps what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        self._monkeypatch.setattr(sys, "argv", ["ttft", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    def calibrate(self, lab: Lab, *words: str, pairs: int = 8) -> tuple[int, str, str]:
        """The lab's small experiment, A against A."""
        options = {"--workload": SHORT, "--store": lab.store_url, "--arm": LAYERWISE, "--pairs": str(pairs)}
        settings = {"model": MODEL, "dtype": "float32", "chunk_tokens": "16"}
        given = [word for pair in options.items() for word in pair]
        given += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        return self("calibrate", *given, "--folder", str(lab.folder), *words)


@pytest.fixture
def ttft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsys, monkeypatch)


def test_an_arm_is_measured_against_itself_in_turns_and_the_floors_are_kept(lab: Lab, ttft: Command) -> None:
    lab.vllm.tamper = lambda served: None
    code, out, err = ttft.calibrate(lab)
    assert (code, err) == (0, "")
    again = f"{LAYERWISE}@again"
    order = [entry["arm"] for entry in lab.run().meta["runs"]]
    assert order == [LAYERWISE, again, again, LAYERWISE] * 4
    assert lab.left() == set()
    kept = load(lab.home / "calibration.json")
    assert (kept.arm, kept.run, kept.n_pairs) == (LAYERWISE, "run", 8)
    assert kept.machine == lab.run().meta["machine"] and kept.config["chunk_tokens"] == 16
    assert [floor.metric for floor in kept.floors] == ["mean", "p50"], "four requests a run are too few for tails"
    for words in ("noise of a pair", "20 pairs", "0 of 1", "1 gates say little", "too few requests per run (4) for: p90, p95"):
        assert words in out
    assert str(lab.home / "calibration.json") in out.replace("\n", "")


def test_the_gate_consults_what_was_calibrated(lab: Lab, ttft: Command) -> None:
    ttft.calibrate(lab)
    path = lab.home / "calibration.json"
    raw = json.loads(path.read_text())
    for floor in raw["floors"]:
        floor["margins"] = dict.fromkeys(floor["margins"], 0.2)  # the stand-in has no noise of its own
    path.write_text(json.dumps(raw))
    words = ["gate", str(lab.folder), "--base", LAYERWISE, "--candidate", f"{LAYERWISE}@again", "--max", "p50:10%"]
    code, out, _ = ttft(*words)
    assert code == 2 and "is below what 8 pairs can hold on this machine, 20.0%" in out
    code, out, _ = ttft(*words, "--force")
    assert code == 0 and "judged anyway, as forced" in out
    path.rename(lab.home / "elsewhere.json")
    code, out, _ = ttft(*words)
    assert code == 0 and "no calibration of this machine was consulted" in out
    assert ttft(*words, "--calibration", str(lab.home / "elsewhere.json"))[0] == 2
    (lab.home / "calibration.json").write_text("{")
    code, _, err = ttft(*words)
    assert code == 2 and "is not JSON" in err and err.count("\n") == 1


def test_a_proof_that_fails_ends_with_code_4_and_nothing_is_kept(lab: Lab, ttft: Command) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "cached_tokens", 0) if served.label == "1/2" else None
    code, _, err = ttft.calibrate(lab)
    assert code == 4
    assert "nothing can be learned from run: 1 of 16 runs is void" in err and err.count("\n") == 1
    assert not (lab.home / "calibration.json").exists()


def test_an_interruption_says_how_to_go_on(lab: Lab, ttft: Command) -> None:
    def interrupt(served: Served) -> None:
        if served.label == "9/1":
            raise KeyboardInterrupt

    lab.vllm.tamper = interrupt
    code, out, _ = ttft.calibrate(lab)
    assert code == 130
    assert f"ttft compare --resume {lab.folder}, then ttft calibrate --from {lab.folder}" in out
    lab.vllm.tamper = lambda served: None
    assert ttft("compare", "--resume", str(lab.folder))[0] == 0
    code, _, err = ttft("calibrate", "--from", str(lab.folder))
    assert (code, err) == (0, "")
    assert load(lab.home / "calibration.json").n_pairs == 8


def test_a_budget_that_is_too_small_for_8_pairs(lab: Lab, ttft: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gate.alike import BudgetWatch

    monkeypatch.setattr(BudgetWatch, "after_round", lambda watch, rounds: "the budget is spent" if rounds == 3 else None)
    code, _, err = ttft.calibrate(lab, "--budget", "10m")
    assert code == 2 and "the budget of 10m was over after 3 pairs, and 8 are needed" in err and err.count("\n") == 1
    assert lab.run().meta["budget_s"] == 600


A = "layerwise:depth=4"


def stored(folder: Path, arms: tuple[str, ...] = (A, f"{A}@again"), rounds: int = 12) -> str:
    return str(write_synthetic_run(folder, arms=arms, rounds=rounds, prompts=24, spans=False))


def test_a_stored_run_is_taken_as_it_is(ttft: Command, tmp_path: Path) -> None:
    run = stored(tmp_path / "results" / "aa")
    words = ["--from", run, "--metric", "p50", "--gate-pairs", "4", "--out", str(tmp_path / "deep" / "c.json")]
    code, out, err = ttft("calibrate", *words)
    assert (code, err) == (0, "")
    assert "of gates of 4 pairs" in out and "of 3 (" in out
    assert [floor.metric for floor in load(tmp_path / "deep" / "c.json").floors] == ["p50"]
    assert not (tmp_path / "results" / "calibration.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "ONE"], "has no two like arms"),
        (["--from", "FEW"], "7 pairs are too few to calibrate with"),
        (["--from", "AA", "--arm", "chunkwise"], "unknown arm of AA 'chunkwise'"),
        (["--from", "AA", "--metric", "q50"], "q50"),
        (["--from", "AA", "--metric", "p99"], "p99 needs at least 100 requests per run, the shortest has 24"),
        (["--from", "AA", "--gate-pairs", "13", "--metric", "p50"], "fewer than one gate of 13"),
        (["--from", "AA", "--gate-pairs", "0", "--metric", "p50"], "a gate of 0 pairs never says FAIL"),
        (["--from", "AA", "--alpha", "0.7"], "alpha is 0.7"),
        (["--from", "AA", "--store", "mem://x"], "takes a measurement as it is"),
        (["--from", "AA", "--concurrency", "2"], "takes a measurement as it is"),
        (["--metric", "p95"], "p95 needs at least 20 requests per run, better 100, and this workload has 10"),
        (["--from", "nowhere"], "nowhere has no run.json"),
        (["--from", "AA", "--out", "AA/run.json/c.json", "--metric", "p50"], "cannot be written"),
        (["--set", "pairs=3"], "--set pairs is set by the calibration itself"),
        (["--budget", "soon"], "'soon' is not a duration"),
        (["--budget", "5s"], "over before anything is measured"),
        (["--budget", "30s"], "a budget of 30s ends before vLLM has started"),
        (["--arm", "chunkwize"], "unknown engine 'chunkwize'"),
        (["--folder", "AA"], "already holds a measurement"),
        (["nothing-like-that"], "unknown experiment 'nothing-like-that'"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], message: str, ttft: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = {"AA": ((A, f"{A}@again"), 12), "ONE": ((A,), 2), "FEW": ((A, f"{A}@again"), 7)}
    for name in {"AA", "ONE", "FEW"} & {word.partition("/")[0] for word in words}:
        stored(tmp_path / name, *made[name])
    tiny = [] if "--from" in words else ["--set", f"model={MODEL}", "--set", "dtype=float32"]
    code, out, err = ttft("calibrate", *words, *tiny)
    assert code == 2, out
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "calibration.json").exists()


def test_fewer_than_8_pairs_are_refused_before_anything_is_measured(lab: Lab, ttft: Command) -> None:
    code, _, err = ttft.calibrate(lab, pairs=7)
    assert code == 2 and "7 pairs are too few to calibrate with; measure at least 8" in err
    assert not lab.folder.exists() and CHUNKWISE not in err


def test_a_dry_run_says_what_would_be_measured(lab: Lab, ttft: Command) -> None:
    code, out, err = ttft.calibrate(lab, "--dry-run", "--budget", "10m", pairs=20)
    assert (code, err) == (0, "")
    assert f"{LAYERWISE} and {LAYERWISE}@again" in out and "160 in 20 pairs of runs" in out and "10m" in out
    assert not lab.folder.exists() and lab.vllm.engines == []
