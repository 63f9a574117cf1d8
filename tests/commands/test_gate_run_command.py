"""``ttft gate --run`` over the stand-in engine: it measures, judges at the declared looks, and stops."""

import json
import sys

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, MODEL, Lab, Served, lab

import cli

__all__ = ["lab"]


@pytest.fixture
def gate(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Gate":
    return Gate(lab, capsys, monkeypatch)


class Gate:
    """Runs ``ttft gate``."""

    def __init__(self, lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab, self._capsys, self._monkeypatch = lab, capsys, monkeypatch

    def measure(self, *more: str) -> tuple[int, str, str]:
        options = {"--workload": "shared_prefix:groups=2,prefix=32,suffix=5,prompts=6,output=3", "--store": self.lab.store_url}
        settings = [f"model={MODEL}", "dtype=float32", "chunk_tokens=16", "correctness_prompts=1"]
        words = [word for pair in options.items() for word in pair] + [word for s in settings for word in ("--set", s)]
        arms = ["--candidate", LAYERWISE, "--base", CHUNKWISE, "--max", "mean:5%"]
        return self("--run", "default", "--out", str(self.lab.folder), *words, *arms, *more)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        self._monkeypatch.setattr(sys, "argv", ["ttft", "gate", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(ended.value.code or 0), captured.out, captured.err


def slower(share: float) -> "object":
    def tamper(served: Served) -> None:
        if served.arm == LAYERWISE:
            served.ttft_s *= 1 + share

    return tamper


def test_the_same_speed_passes_at_the_first_look_and_measures_no_more(lab: Lab, gate: Gate) -> None:
    code, out, err = gate.measure("--budget", "10m")
    assert (code, err) == (0, "")
    assert "PASS" in out and "the look at 8 pairs of the declared plan (8, 12, 18, 27, 40" in out
    run = lab.run()
    assert run.meta["stopped"] == {"rounds": 8, "reason": "PASS at the look at 8 pairs"}
    assert run.meta["status"] == "complete"
    assert sorted(run.requests["arm"].unique()) == [CHUNKWISE, LAYERWISE], "a gate measures no bounds"
    assert run.requests["round"].max() == 7
    verdict = json.loads((lab.folder / "verdict.json").read_text(encoding="utf-8"))
    assert (verdict["outcome"], verdict["n_pairs"]) == ("PASS", 8)
    assert (lab.folder / "junit.xml").exists() and (lab.folder / "report.md").exists()
    assert lab.left() == set()
    assert "a gate ended this after 8 rounds: PASS at the look at 8 pairs" in (lab.folder / "report.md").read_text("utf-8")


def test_a_dry_run_declares_the_plan_and_starts_nothing(lab: Lab, gate: Gate) -> None:
    code, out, err = gate.measure("--looks", "8,16", "--budget", "10m", "--dry-run")
    assert (code, err) == (0, "")
    assert f"arms      {LAYERWISE} against {CHUNKWISE}" in out
    assert "8 (3.1%), 16 (3%)" in out and "in all    5%, spent by pocock" in out
    assert "requests  24 per pair, at most 384" in out
    assert lab.vllm.engines == [] and not lab.folder.exists()


def test_flags_of_compare_reach_the_measurement_and_a_thin_metric_is_announced(lab: Lab, gate: Gate) -> None:
    words = ["--max", "p90:20%", "--model", MODEL, "--dtype", "float32", "--concurrency", "2", "--cache-state", "primed"]
    code, out, err = gate.measure("--looks", "2", *words)
    assert (code, err) == (0, "")
    assert out.startswith("p90 is unsure below 50 requests per run, and this workload has 12")
    assert lab.run().meta["config"]["concurrency"] == 2


def test_an_absolute_limit_is_judged_beside_the_ratio(lab: Lab, gate: Gate) -> None:
    code, out, _ = gate.measure("--looks", "8", "--max", "p50:0.01ms")
    verdict = json.loads((lab.folder / "verdict.json").read_text(encoding="utf-8"))
    assert code == 1 and "FAIL" in out and "the limit of p50" not in out.partition("###")[0]
    assert [one["outcome"] for one in verdict["metrics"]] == ["PASS"]
    assert [(one["metric"], one["limit_s"], one["outcome"]) for one in verdict["limits"]] == [("p50", 1e-5, "FAIL")]
    code, out, _ = gate(str(lab.folder), "--candidate", LAYERWISE, "--base", CHUNKWISE, "--max", "p50:100s")
    assert code == 0 and "| p50 | 100,000.0 ms |" in out


def test_a_history_keeps_ratios_only(gate: Gate, lab: Lab) -> None:
    arms = ["--candidate", LAYERWISE, "--base", CHUNKWISE]
    code, _, err = gate("--run", "default", *arms, "--max", "p50:800ms", "--history", str(lab.folder / "history.csv"))
    assert code == 2 and "a history keeps ratios" in err and lab.vllm.engines == []


def test_a_slower_candidate_fails_with_code_1(lab: Lab, gate: Gate) -> None:
    lab.vllm.tamper = slower(0.1)  # type: ignore[assignment]
    code, out, _ = gate.measure()
    assert code == 1
    assert "FAIL" in out and "mean" in out


def test_the_stored_run_is_judged_by_its_plan_again(lab: Lab, gate: Gate) -> None:
    """Not by the level of a fixed number of pairs, which the early stop would have earned unfairly."""
    gate.measure("--looks", "6,9")
    code, out, _ = gate(str(lab.folder), "--candidate", LAYERWISE, "--base", CHUNKWISE, "--max", "mean:5%")
    assert code == 0
    assert "the look at 6 pairs of the declared plan (6, 9" in out


def test_a_measured_gate_cannot_be_resumed_past_its_plan(lab: Lab, gate: Gate, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    gate.measure()
    monkeypatch.setattr(sys, "argv", ["ttft", "compare", "--resume", str(lab.folder)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "was measured by `ttft gate --run`, whose plan says when to stop" in capsys.readouterr().err


def test_void_runs_get_no_verdict(lab: Lab, gate: Gate) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "cached_tokens", 0) if served.label == "1/2" else None
    code, out, _ = gate.measure()
    assert code == 2
    assert "No verdict, because" in out and "hit 0 tokens, but the workload implies 32" in out
    assert lab.run().meta["stopped"]["reason"] == "REFUSED at the look at 8 pairs"


def test_ctrl_c_keeps_the_rows_and_gives_no_verdict(lab: Lab, gate: Gate) -> None:
    def interrupt(served: Served) -> None:
        if served.label == "3/1":
            raise KeyboardInterrupt

    lab.vllm.tamper = interrupt
    code, out, _ = gate.measure("--budget", "10m")
    assert code == 130
    assert "Interrupted; what was measured is kept" in out and "there is no verdict" in out
    assert len(lab.run().requests) > 0
    assert not (lab.folder / "verdict.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "ten"], "'ten' is not a duration"),
        (["--budget", "5s"], "a budget of 5s is over before anything is measured"),
        (["--budget", "30s"], "a budget of 30s ends before vLLM has started, for which 30 s are reckoned; give a larger one"),
        (["--looks", "8,x"], "--looks 8,x is not a list of numbers of pairs"),
        (["--looks", "12,8"], "must be growing numbers of pairs"),
        (["--looks", "8", "--pairs", "8"], "remove --pairs"),
        (["--pairs", "1"], "each at least 2"),
        (["--spending", "all"], "unknown spending 'all'; known: obrien-fleming, pocock"),
        (["--set", "pairs=3"], "--set pairs is set by the gate itself"),
        (["--relative-to", "floor"], "remove the stored measurements and --relative-to"),
        (["--max", "p42:5%", "--alpha", "0.4"], "alpha is 0.4"),
        (["--store", "nothing://here"], "unknown store 'nothing'"),
        (["--max", "p95:20%"], "p95 needs at least 20 requests per run, better 100, and this workload has 12; let it have more"),
        (["--max", "p99:800ms"], "p99 needs at least 100 requests per run"),
        (["--max", "p95:0ms"], "the limit of p95 is 0 ms; give a time above 0"),
        (["--max", "mean:800ms", "--max", "mean:1s"], "the metric 'mean' has two limits; give one"),
        (["--max", "mean:800min"], "'mean:800min' is not a margin"),
    ],
)
def test_what_will_not_do_is_refused_before_anything_is_measured(lab: Lab, gate: Gate, words: list[str], said: str) -> None:
    code, _, err = gate.measure(*words)
    assert code == 2
    assert said in err and err.count("\n") == 1
    assert lab.vllm.engines == []


def test_flags_of_the_plan_need_an_experiment(gate: Gate) -> None:
    code, _, err = gate("somewhere", "--max", "p50:5%", "--budget", "10m")
    assert (code, "--budget: these belong to --run EXPERIMENT" in err) == (2, True)
    code, _, err = gate("somewhere", "--max", "p50:5%", "--model", "builtin", "--concurrency", "4", "--set", "dtype=float32")
    assert (code, "--concurrency, --model, --set: these belong to --run" in err) == (2, True)
    code, _, err = gate("--max", "p50:5%")
    assert (code, "name a measurement's folder to judge, or measure one with --run" in err) == (2, True)


@pytest.mark.parametrize(
    ("arm", "warmup", "said"),
    [
        (
            "auto",
            3,
            "auto tries other ways in 5% of its loads, so a gate's runs would differ; write auto:explore=0, or explore=0.05",
        ),
        ("auto:explore=0", 2, "auto:explore=0 learns by its first 3 loads, and warmup=2 leaves some of them in a gate's runs"),
        (
            "hybrid",
            1,
            "hybrid learns by its first 2 loads, and warmup=1 leaves some of them in a gate's runs; give --set warmup=2",
        ),
    ],
)
def test_an_arm_that_would_change_meanwhile_is_refused(gate: Gate, arm: str, warmup: int, said: str) -> None:
    code, out, err = gate.measure("--set", f"warmup={warmup}", "--candidate", arm, "--dry-run")
    assert code == 2
    assert said in " ".join((out + err).split())


@pytest.mark.parametrize("arm", ["auto:explore=0", "auto:explore=0.05", "layerwise:groups=auto"])
def test_an_arm_that_has_learned_in_the_warm_up_may_be_judged(gate: Gate, arm: str) -> None:
    code, _, err = gate.measure("--set", "warmup=3", "--candidate", arm, "--dry-run")
    assert (code, err) == (0, "")
