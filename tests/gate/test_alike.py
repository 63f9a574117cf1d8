"""Calibrating from a stored run: which arms are alike, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError, VoidRuns
from harness.gate import Outcome, judge_run, judge_runs
from harness.gate.alike import BudgetWatch, calibrate_run, like_arms
from harness.results import Measurement, load
from harness.testing.runs import write_synthetic_run

A, AGAIN, OTHER = "layerwise:depth=4", "layerwise:depth=4@again", "chunkwise:pool=0"


def run(folder: Path, arms: tuple[str, ...] = (A, AGAIN), rounds: int = 10, prompts: int = 24, **more: Any) -> Measurement:
    mean = dict.fromkeys(arms, 0.3)
    return load(write_synthetic_run(folder, arms=arms, rounds=rounds, prompts=prompts, mean_s=mean, spans=False, **more))


def test_a_run_with_two_like_arms_is_a_calibration(tmp_path: Path) -> None:
    found = calibrate_run(run(tmp_path / "aa"), A, AGAIN, ["p50"])
    assert (found.arm, found.run, found.n_pairs) == (A, "aa", 10)
    assert found.config["dtype"] == "bfloat16" and found.machine["cores"] == 2
    assert [(item.margin, item.pairs, item.rate.trials) for item in found.alarms] == [
        (0.01, 6, 1),
        (0.02, 6, 1),
        (0.05, 6, 1),
        (0.10, 6, 1),
    ]


def test_metrics_that_need_more_requests_are_left_out_with_a_note(tmp_path: Path) -> None:
    short = run(tmp_path / "aa", prompts=8)
    found = calibrate_run(short, A, AGAIN)
    assert [floor.metric for floor in found.floors] == ["mean", "p50"]
    assert "too few requests per run (8) for: p90, p95" in found.warnings
    with pytest.raises(UsageError, match="p95 needs at least 20 requests per run, the shortest has 8"):
        calibrate_run(short, A, AGAIN, ["p95"])


def test_like_arms_are_found_by_name_and_by_settings(tmp_path: Path) -> None:
    assert like_arms(run(tmp_path / "1", (OTHER, A, AGAIN), rounds=1)) == (A, AGAIN)
    defaults = [{"name": name, "engine": "chunkwise", "options": {"pool": 8}} for name in ("chunkwise", "chunkwise:pool=8")]
    spelled = run(tmp_path / "2", ("chunkwise", "chunkwise:pool=8"), rounds=1, meta={"arms": defaults})
    assert like_arms(spelled, "chunkwise:pool=8") == ("chunkwise:pool=8", "chunkwise")


@pytest.mark.parametrize(
    ("arms", "arm", "message"),
    [
        ((A,), None, r"has no two like arms; measure A against A with `ttft calibrate --arm layerwise:depth=4`"),
        ((A, OTHER), None, "has no two like arms"),
        ((A, AGAIN, OTHER), OTHER, f"has no second arm like '{OTHER}'"),
        ((A, AGAIN), "layerwise", "unknown arm of aa 'layerwise'"),
    ],
)
def test_no_like_arms(arms: tuple[str, ...], arm: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        like_arms(run(tmp_path / "aa", arms, rounds=1, prompts=2), arm)


def test_rows_that_prove_nothing_are_refused(tmp_path: Path) -> None:
    void = run(tmp_path / "void", void={3: "hit 0 tokens"}, failed={(5, 1): "store gone"})
    with pytest.raises(VoidRuns, match=r"nothing can be learned from void: .*hit 0 tokens.*and 1 more reason"):
        calibrate_run(void, A, AGAIN)
    with pytest.raises(UsageError, match="4 pairs are too few to calibrate with"):
        calibrate_run(run(tmp_path / "few", rounds=4), A, AGAIN)
    with pytest.raises(UsageError, match="the run has 10 pairs, fewer than one gate of 12"):
        calibrate_run(run(tmp_path / "aa"), A, AGAIN, ["p50"], gate_pairs=12)


def test_the_gate_refuses_a_margin_below_the_floor_unless_forced(tmp_path: Path) -> None:
    floors = calibrate_run(run(tmp_path / "aa"), A, AGAIN, ["p50"])
    judged = run(tmp_path / "ab", (A, OTHER))
    verdict = judge_run(judged, OTHER, A, {"p50": 0.001}, calibration=floors)
    assert verdict.outcome is Outcome.REFUSED
    assert "the margin of p50, 0.1%, is below what 10 pairs can hold on this machine" in str(verdict.refusals[0])
    forced = judge_run(judged, OTHER, A, {"p50": 0.001}, calibration=floors, force=True)
    assert forced.outcome is not Outcome.REFUSED
    assert any("judged anyway, as forced" in text for text in map(str, forced.warnings))
    assert judge_run(judged, OTHER, A, {"p50": 0.2}, calibration=floors).outcome is Outcome.PASS


def test_two_runs_are_held_to_the_floor_as_well(tmp_path: Path) -> None:
    floors = calibrate_run(run(tmp_path / "aa"), A, AGAIN, ["p50"])
    sides = run(tmp_path / "old", (A, OTHER)), run(tmp_path / "new", (A, OTHER), seed=0)
    for control in (None, OTHER):
        verdict = judge_runs(*sides, {"p50": 0.001}, A, A, relative_to=control, calibration=floors)
        assert verdict.outcome is Outcome.REFUSED and "can hold on this machine" in str(verdict.refusals[0])
        forced = judge_runs(*sides, {"p50": 0.001}, A, A, relative_to=control, calibration=floors, force=True)
        assert forced.outcome is not Outcome.REFUSED


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"machine": {"cpu": "Another CPU"}}, "its machine 'cores' is '2' and the run's not given"),
        ({"versions": {"vllm": "0.33.0"}}, "its versions 'python' is '3.11.9' and the run's not given"),
        ({"config": {"workload": "long_doc"}}, "its setting 'workload' is 'shared_prefix"),
    ],
)
def test_a_calibration_of_other_conditions_is_not_consulted(meta: dict[str, Any], reason: str, tmp_path: Path) -> None:
    floors = calibrate_run(run(tmp_path / "aa"), A, AGAIN, ["p50"])
    judged = run(tmp_path / "ab", (A, OTHER), meta=meta)
    verdict = judge_run(judged, OTHER, A, {"p50": 0.001}, calibration=floors)
    assert verdict.outcome is not Outcome.REFUSED
    (said,) = [text for text in map(str, verdict.warnings) if "calibration" in text]
    assert said.startswith(f"the calibration is not consulted, since {reason}")


def test_our_own_version_may_differ(tmp_path: Path) -> None:
    floors = calibrate_run(run(tmp_path / "aa"), A, AGAIN, ["p50"])
    newer = {**run(tmp_path / "x", rounds=1).meta["versions"], "ttft": "9.9.9"}
    judged = run(tmp_path / "ab", (A, OTHER), meta={"versions": newer})
    assert judge_run(judged, OTHER, A, {"p50": 0.001}, calibration=floors).outcome is Outcome.REFUSED


class Clock:
    """A budget that a test spends."""

    seconds = 100.0

    def __init__(self) -> None:
        self.left = 100.0


def test_a_budget_ends_before_the_round_that_does_not_fit() -> None:
    clock = Clock()
    watch = BudgetWatch(clock)
    assert watch.declared == {"budget_s": 100.0}
    reasons: list[str | None] = []
    for spent in (10, 30, 30, 10):  # starting up counts as no round
        clock.left -= spent
        reasons.append(watch.after_round(len(reasons) + 1))
    assert reasons == [None, None, None, "the budget is spent after 4 rounds"]
    assert BudgetWatch(None).declared == {} and BudgetWatch(None).after_round(1) is None
