"""Stored runs to verdicts, and every reason to refuse one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.gate import Outcome, judge_run, judge_runs
from harness.results import Measurement, load
from harness.results.evidence import gather
from harness.stats import compare
from harness.testing.frames import make_frame
from harness.testing.runs import write_synthetic_run

MARGINS = {"p50": 0.05}
META: dict[str, Any] = {
    "machine": {"cpu": "C", "cores": 2},
    "versions": {"vllm": "0.32.0", "ttft": "0.1.0"},
    "data": {"fingerprint": "f"},
    "config": {"store": "mem://kv", "model": "builtin"},
}


def run_of(frame: pd.DataFrame, meta: dict[str, Any] | None = None, name: str = "run") -> Measurement:
    return Measurement(Path(name), META if meta is None else meta, frame, pd.DataFrame())


def test_an_arm_that_was_given_up_is_refused_however_fast_it_was() -> None:
    """Its rounds before it failed are all there."""
    given_up = {**META, "failed_arms": [{"arm": "b", "reason": "it ended with exit code 1"}]}
    verdict = judge_run(run_of(make_frame({"a": 1, "b": 1}), given_up), "b", "a", MARGINS)
    assert verdict.outcome is Outcome.REFUSED
    (reason,) = verdict.refusals
    assert str(reason) == "'b' did not make it to the end: it ended with exit code 1; an arm that fails is not faster"
    other = {**META, "failed_arms": [{"arm": "c", "reason": "it ended with exit code 1"}]}
    assert judge_run(run_of(make_frame({"a": 1, "b": 1}), other), "b", "a", MARGINS).outcome is Outcome.PASS


def test_a_stored_run_is_judged(tmp_path: Path) -> None:
    path = write_synthetic_run(
        tmp_path / "r", ["chunkwise:pool=8", "layerwise", "floor"], rounds=8, mean_s={"layerwise": 0.3, "chunkwise:pool=8": 0.3}
    )
    verdict = judge_run(load(path), "layerwise", "chunkwise:pool=8", MARGINS)
    assert verdict.outcome is Outcome.PASS and verdict.refusals == ()
    assert any("no calibration" in text for text in map(str, verdict.warnings))
    assert judge_run(load(path), "layerwise", "floor", MARGINS).refusals == ()


@pytest.mark.parametrize(("change", "outcome"), [(1.0, Outcome.PASS), (1.2, Outcome.FAIL), (1.05, Outcome.INCONCLUSIVE)])
def test_three_states_of_a_run(change: float, outcome: Outcome) -> None:
    assert judge_run(run_of(make_frame({"a": 1, "b": change})), "b", "a", MARGINS).outcome is outcome


def spoil(column: str, value: Any, where: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> pd.DataFrame:
    frame = make_frame({"a": 1, "b": 1})
    frame.loc[where(frame), column] = value
    return frame


def one(frame: pd.DataFrame) -> "pd.Series[bool]":
    return (frame["run"] == 6) & (frame["position"] == 3)


def arm_b(frame: pd.DataFrame) -> "pd.Series[bool]":
    return frame["arm"] == "b"


REFUSED = [
    ("error", "store gone", one, "1 of 96 requests of 'b' failed, the first in run 6 (prompt p3): store gone"),
    ("void", "KV differs", one, "1 of 16 runs is void, first run 6, since KV differs"),
    ("ttft_s", float("nan"), one, "1 request without a TTFT above 0, the first in run 6 of 'b' (prompt p3: nan s)"),
    ("ttft_s", -0.2, one, "(prompt p3: -0.2 s)"),
    ("ttft_s", 0.0, one, "(prompt p3: 0 s)"),
    (
        "hit_tokens",
        512,
        one,
        "1 request did not hit what the workload implies, the first in run 6 of 'b' (prompt p3: 512 tokens, not 768)",
    ),
    ("prompt_tokens", 999, one, "1 prompt had different lengths"),
    ("output_digest", "other", one, "1 prompt gave different tokens ('a' and 'b', the first is prompt p3)"),
    ("kv_digest", "other", arm_b, "12 prompts had different KV in the paged cache"),
    ("sent_s", 60.0, arm_b, "the schedule lagged: a twentieth of the requests left over"),
]


@pytest.mark.parametrize(("column", "value", "where", "text"), REFUSED)
def test_rows_that_must_not_be_judged(column: str, value: object, where: Any, text: str) -> None:
    verdict = judge_run(run_of(spoil(column, value, where)), "b", "a", MARGINS)
    assert verdict.outcome is Outcome.REFUSED and verdict.exit_code == 2
    assert any(text in reason for reason in map(str, verdict.refusals)), verdict.refusals


def test_hits_without_an_expectation_must_agree() -> None:
    frame = spoil("hit_tokens", 512, arm_b)
    frame["expected_hit_tokens"] = pd.NA
    (reason,) = judge_run(run_of(frame), "b", "a", MARGINS).refusals
    assert "12 prompts hit different numbers of tokens" in str(reason)


def test_an_arm_that_is_meant_to_hit_nothing_may_be_judged() -> None:
    frame = make_frame({"recompute": 1, "b": 1})
    frame.loc[frame["arm"] == "recompute", ["hit_tokens", "expected_hit_tokens"]] = 0
    frame.loc[frame["arm"] == "recompute", "output_digest"] = "another path"
    assert judge_run(run_of(frame), "b", "recompute", MARGINS).outcome is Outcome.PASS


def test_arms_that_take_different_parts_of_a_hit_may_load_other_kv_and_give_other_tokens() -> None:
    frame = make_frame({"a": 1, "b": 1})
    frame.loc[arm_b(frame), ["hit_tokens", "expected_hit_tokens"]] = 256
    frame.loc[arm_b(frame), ["output_digest", "kv_digest"]] = "of fewer chunks"
    assert judge_run(run_of(frame), "b", "a", MARGINS).outcome is Outcome.PASS


def test_run_json_says_which_arms_load() -> None:
    frame = spoil("output_digest", "other", arm_b)
    arms = [{"name": "a", "loads_kv": True}, {"name": "b", "loads_kv": False}]
    assert judge_run(run_of(frame, {**META, "arms": arms}), "b", "a", MARGINS).refusals == ()


def test_a_short_run_is_refused() -> None:
    frame = make_frame({"a": 1, "b": 1})
    verdict = judge_run(run_of(frame[~one(frame)]), "b", "a", MARGINS)
    assert "1 of 16 runs differ in size, the first, run 6 of 'b': it stopped after 11 of 12 requests" in str(verdict.refusals[0])


def test_a_run_that_was_cut_off_and_measured_again_is_left_out() -> None:
    frame = make_frame({"a": 1, "b": 1}, run_noise=0.005)
    frame = frame[~((frame["run"] == 6) & (frame["position"] > 3))]
    meta = {**META, "void_runs": [{"run": 6, "reason": "interrupted"}]}
    verdict = judge_run(run_of(frame, meta), "b", "a", MARGINS)
    assert verdict.outcome is Outcome.PASS and verdict.n_pairs == 7
    assert "runs that were cut off are excluded: 6" in map(str, verdict.warnings)


def test_void_runs_of_run_json_and_a_failed_proof() -> None:
    meta = {
        **META,
        "void_runs": [{"run": 2, "reason": "bytes differ"}],
        "correctness": {"status": "failed", "detail": "tokens differ"},
    }
    reasons = judge_run(run_of(make_frame({"a": 1, "b": 1}), meta), "b", "a", MARGINS).refusals
    assert any("the correctness pass failed (tokens differ)" in text for text in map(str, reasons))
    assert any("run 2, since bytes differ" in text for text in map(str, reasons))


def test_void_runs_of_other_arms_do_not_matter() -> None:
    frame = make_frame({"a": 1, "b": 1, "c": 1})
    frame.loc[frame["arm"] == "c", "error"] = "gone"
    assert judge_run(run_of(frame), "b", "a", MARGINS).outcome is Outcome.PASS


def test_no_round_in_common() -> None:
    frame = make_frame({"a": 1, "b": 1})
    verdict = judge_run(run_of(frame[(frame["arm"] == "a") == (frame["round"] < 4)]), "b", "a", MARGINS)
    assert verdict.outcome is Outcome.REFUSED and "no round has a run of both" in str(verdict.refusals[0])


def test_arms_that_are_not_there() -> None:
    run = run_of(make_frame({"alpha": 1, "beta": 1}))
    with pytest.raises(UsageError, match=r"unknown arm of run 'bet' \(did you mean 'beta'\?\)"):
        judge_run(run, "bet", "alpha", MARGINS)
    with pytest.raises(UsageError, match="listed twice"):
        judge_run(run, "alpha", "alpha", MARGINS)
    with pytest.raises(UsageError, match="known: none"):
        judge_run(run_of(make_frame({"a": 1})[:0]), "a", "b", MARGINS)


def test_two_stored_runs() -> None:
    old, new = run_of(make_frame({"a": 1.0}, seed=1)), run_of(make_frame({"a": 1.2}, seed=2), name="new")
    verdict = judge_runs(old, new, MARGINS)
    assert verdict.outcome is Outcome.FAIL and verdict.base == verdict.candidate == "a"
    assert any("share no rounds" in text for text in map(str, verdict.warnings))


@pytest.mark.parametrize(
    ("part", "name"), [("machine", "cpu"), ("versions", "vllm"), ("data", "fingerprint"), ("config", "store")]
)
def test_two_environments_are_refused(part: str, name: str) -> None:
    other = {**META, part: {**META[part], name: "other"}}
    verdict = judge_runs(run_of(make_frame({"a": 1})), run_of(make_frame({"a": 1}), other), MARGINS)
    assert verdict.outcome is Outcome.REFUSED
    assert "the environments differ" in str(verdict.refusals[0]) and "'other'" in str(verdict.refusals[0])


def test_a_setting_that_older_runs_lack_had_its_default() -> None:
    def against(**config: object) -> Outcome:
        newer = {**META, "config": {**META["config"], **config}}
        return judge_runs(run_of(make_frame({"a": 1})), run_of(make_frame({"a": 1}), newer), MARGINS).outcome

    assert against(layout="chunk", neighbours=0, probe_every_s=0.0) is not Outcome.REFUSED
    assert [against(layout="layer"), against(neighbours=2), against(probe_every_s=0.5)] == [Outcome.REFUSED] * 3


def test_our_own_version_may_differ_and_unknown_parts_are_named() -> None:
    other = {**META, "versions": {**META["versions"], "ttft": "0.2.0"}}
    assert judge_runs(run_of(make_frame({"a": 1})), run_of(make_frame({"a": 1}), other), MARGINS).refusals == ()
    bare = judge_runs(run_of(make_frame({"a": 1}), {}), run_of(make_frame({"a": 1}), {}), MARGINS)
    assert any("does not say the machine" in text for text in map(str, bare.warnings))


def test_two_runs_with_other_prompts_or_tokens() -> None:
    frame = make_frame({"a": 1})
    other = run_of(make_frame({"a": 1}, prompts=9))
    assert "different prompts" in str(judge_runs(run_of(frame), other, MARGINS).refusals[0])
    changed = frame.assign(output_digest="other")
    assert any("gave different tokens" in text for text in map(str, judge_runs(run_of(frame), run_of(changed), MARGINS).refusals))


def test_relative_to_a_control_the_machine_cancels() -> None:
    slow = {**META, "machine": {"cpu": "slower"}}
    old = run_of(make_frame({"floor": 1.0, "a": 1.5}, seed=1))
    new = run_of(make_frame({"floor": 1.0, "a": 1.5}, seed=2, base_s=0.5), slow)
    assert judge_runs(old, new, MARGINS).outcome is Outcome.REFUSED
    verdict = judge_runs(old, new, {"p50": 0.10}, relative_to="floor")
    assert verdict.outcome is Outcome.PASS
    worse = run_of(make_frame({"floor": 1.0, "a": 1.9}, seed=3, base_s=0.5), slow)
    assert judge_runs(old, worse, {"p50": 0.10}, relative_to="floor").outcome is Outcome.FAIL


def test_which_arm_is_meant() -> None:
    both = run_of(make_frame({"a": 1, "b": 1, "floor": 1}))
    with pytest.raises(UsageError, match="share these arms that load: a, b; say which"):
        judge_runs(both, both, MARGINS)
    assert judge_runs(both, both, MARGINS, candidate="b").base == "b"
    assert judge_runs(both, both, MARGINS, base="a", candidate="b").base == "a"


def test_floor_is_no_candidate_but_may_be_the_base(tmp_path: Path) -> None:
    run = load(write_synthetic_run(tmp_path / "run", ["layerwise:depth=4", "floor"], rounds=8, spans=False))
    verdict = judge_run(run, "floor", "layerwise:depth=4", MARGINS)
    assert verdict.outcome is Outcome.REFUSED
    assert "'floor' loads nothing, so its KV is not real" in str(verdict.refusals[0])
    assert judge_run(run, "layerwise:depth=4", "floor", MARGINS).outcome is not Outcome.REFUSED


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.integers(0, 15), st.sampled_from(["void", "failed", "noted", "short", "silent"]), max_size=6),
    st.sampled_from(["a", "b", "c"]),
)
def test_what_counts_for_a_report_counts_for_a_gate(lost: dict[int, str], spoiled: str) -> None:
    """Whatever happens to runs of one arm: a gate refuses, or judges exactly the rows that a report counts."""
    frame = make_frame({"a": 1, "b": 1, "c": 1}, pairs=8)
    mine = frame.loc[frame["arm"] == spoiled, "run"].unique()
    meta: dict[str, Any] = {**META, "void_runs": []}
    for place, how in lost.items():
        run = int(mine[place % len(mine)])
        first = (frame["run"] == run) & (frame["position"] == 0)
        if how in ("void", "failed"):
            frame.loc[first, {"void": "void", "failed": "error"}[how]] = "gone"
        elif how == "noted":
            meta["void_runs"].append({"run": run, "reason": "interrupted"})
        elif how == "silent":
            frame.loc[first, "ttft_s"] = float("nan")
        else:
            frame = frame[~first]
    measurement = run_of(frame, meta)
    report = gather(measurement).rows
    assert set(report["run"]) == set(frame["run"]) - set(measurement.void_runs)
    verdict = judge_run(measurement, "b", "a", MARGINS)
    if verdict.outcome is Outcome.REFUSED:
        assert spoiled in ("a", "b") and lost
        return
    (comparison,) = compare(report, "a", "b", ["p50"])
    assert verdict.metrics[0].log_ratios == comparison.log_ratios and verdict.n_pairs == comparison.n_pairs


def test_two_machines_of_one_kind_are_judged_and_what_differs_is_said() -> None:
    def on(memory: int, kernel: str) -> dict[str, Any]:
        return {**META, "machine": {**META["machine"], "memory_bytes": memory, "kernel": kernel}}

    ours, theirs = on(25_276_502_016, "6.8.0-1021"), on(25_276_502_016 - 8192, "6.8.0-1022")
    verdict = judge_runs(run_of(make_frame({"a": 1}), ours), run_of(make_frame({"a": 1}), theirs, "new"), MARGINS)
    assert verdict.refusals == () and verdict.outcome is not Outcome.REFUSED
    assert "machine 'kernel' is '6.8.0-1021' in run and '6.8.0-1022' in new" in map(str, verdict.warnings)
    assert not any("memory" in str(text) for text in verdict.warnings)
