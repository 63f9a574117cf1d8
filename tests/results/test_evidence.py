"""Which rows count, and what is said about the others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.core.findings import Severity
from harness.results import RunWriter, load
from harness.results.evidence import Evidence, gather
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=8", "layerwise:depth=4")


def evidence_of(folder: Path, arms: tuple[str, ...] = ARMS, **more: Any) -> Evidence:
    return gather(load(write_synthetic_run(folder, arms, **{"rounds": 3, "prompts": 4, "spans": False, **more})))


def told(evidence: Evidence) -> list[str]:
    return [str(finding) for finding in evidence.findings]


def kinds(evidence: Evidence) -> dict[int, str]:
    return {lost.run: lost.kind for lost in evidence.left_out}


def test_all_of_a_clean_run_counts(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path)
    assert len(evidence.rows) == 2 * 3 * 4
    assert evidence.findings == ()
    assert not evidence.left_out
    assert not evidence.partial
    assert not evidence.worthless


def test_the_first_arm_is_the_users_first_and_bounds_come_last(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, ("floor", "layerwise:depth=4", "recompute", "chunkwise:pool=8"))
    assert [arm.name for arm in evidence.arms] == ["layerwise:depth=4", "chunkwise:pool=8", "floor", "recompute"]
    assert evidence.first is not None
    assert evidence.first.name == "layerwise:depth=4"


def test_a_void_run_is_left_out_with_its_reason(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, void={1: "other tokens than recompute"})
    assert 1 not in set(evidence.rows["run"])
    assert kinds(evidence) == {1: "void"}
    assert str(evidence.findings[0]) == "VOID: 1 of 6 runs excluded (run 1): other tokens than recompute"
    assert evidence.findings[0].severity is Severity.VOID


def test_a_run_that_only_run_json_calls_void_is_left_out_too(tmp_path: Path) -> None:
    void = [{"run": 0, "arm": ARMS[0], "reason": "the page cache was warm"}]
    evidence = evidence_of(tmp_path, meta={"void_runs": void, "status": "void"})
    assert 0 not in set(evidence.rows["run"])
    assert "the page cache was warm" in str(evidence.findings[0])
    assert not evidence.worthless


def test_a_run_with_a_failed_request_is_left_out_and_the_request_counted(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, failed={(2, 1): "boom", (2, 3): "bang"})
    assert kinds(evidence) == {2: "failed"}
    assert 2 not in set(evidence.rows["run"])
    said = "2 requests of layerwise:depth=4 failed: 1 of its runs excluded (run 2); the first failed with: boom"
    assert said in told(evidence)


def test_an_interrupted_run_is_left_out_and_the_rest_counts(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, stop_after=4 * 3 + 2)
    assert evidence.partial
    assert kinds(evidence) == {3: "interrupted"}
    assert set(evidence.rows["run"]) == {0, 1, 2}
    assert "PARTIAL: the measurement was cut off; 1 of 3 rounds are complete" in told(evidence)


def test_a_run_that_a_crash_cut_short_is_noticed_without_a_note(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, stop_after=4 * 3 + 2, meta={"runs": []})
    assert kinds(evidence) == {3: "interrupted"}
    assert "run 3 (chunkwise:pool=8) is excluded: it stopped after 2 of 4 requests" in told(evidence)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({}, "the measurement was ended early: it is enough"),
        (
            {"plan": {"looks": [3], "alpha": 0.05, "spending": "pocock"}},
            "a gate ended this after 3 rounds: it is enough; the intervals here do not correct for looking early, the gate's"
            " verdict does",
        ),
    ],
)
def test_who_ended_a_measurement_early_is_said(tmp_path: Path, meta: dict[str, Any], said: str) -> None:
    stopped = {"stopped": {"rounds": 3, "reason": "it is enough"}}
    assert told(evidence_of(tmp_path, meta=stopped | meta)) == [said]


def test_a_round_that_was_measured_again_is_complete_once(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, ARMS, rounds=2, prompts=4, spans=False, stop_after=4 * 3 + 2)
    run = load(tmp_path)
    writer = RunWriter(tmp_path)
    for row in run.requests[run.requests["round"] == 0].to_dict("records"):
        row |= {"round": 1, "run": int(row["run"]) + 4}
        writer.append({str(name): value for name, value in row.items() if not pd.isna(value)})
    writer.close()
    interrupted = [{"run": number, "round": 1, "done": False} for number in (2, 3)]
    evidence = gather(replace(load(tmp_path), meta=run.meta | {"runs": interrupted, "status": "partial", "config": {"pairs": 3}}))
    assert set(evidence.rows["run"]) == {0, 1, 4, 5}
    assert any("2 of 3 rounds are complete" in text for text in told(evidence)), told(evidence)


def test_an_arm_that_was_given_up_is_told_and_its_rounds_before_count(tmp_path: Path) -> None:
    failed = [{"arm": ARMS[1], "reason": "it ended: redis://me:hunter2@host is gone"}]
    evidence = evidence_of(tmp_path, meta={"failed_arms": failed})
    assert told(evidence) == [f"FAILED: {ARMS[1]} did not make it to the end: it ended: redis://me:***@host is gone"]
    assert set(evidence.rows["arm"]) == set(ARMS)
    assert not evidence.partial and not evidence.worthless


def test_a_measurement_that_ended_after_its_last_round_is_not_cut_off(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, meta={"status": "partial", "config": {"pairs": 3}})
    assert not evidence.partial and evidence.findings == ()
    more = evidence_of(tmp_path / "more", meta={"status": "partial", "config": {"pairs": 4}})
    assert more.partial and "3 of 4 rounds are complete" in told(more)[0]


def test_rounds_without_a_bound_are_complete(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, (*ARMS, "recompute"), stop_after=4 * 2, meta={"runs": []})
    assert "PARTIAL: the measurement was cut off; 1 of 3 rounds are complete" in told(evidence)


def test_wrong_hits_that_nobody_called_void_are_told(tmp_path: Path) -> None:
    run = load(write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=2, spans=False))
    run.requests.loc[run.requests["arm"] == ARMS[0], "hit_tokens"] = 0
    assert "2 requests of chunkwise:pool=8 did not hit what the workload implies" in told(gather(run))


def test_nothing_counts_where_every_run_is_void(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, rounds=1, void={0: "wrong KV", 1: "wrong KV"})
    assert evidence.worthless
    assert evidence.rows.empty


def test_void_without_saying_which_runs_is_all_of_them(tmp_path: Path) -> None:
    assert evidence_of(tmp_path, meta={"status": "void"}).worthless


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_the_correctness_pass_is_told_where_it_did_not_pass(tmp_path: Path, status: str) -> None:
    evidence = evidence_of(tmp_path, meta={"correctness": {"status": status}})
    assert any("correctness" in text.lower() for text in told(evidence))


def test_notes_and_warnings_of_the_run_are_passed_on_without_secrets(tmp_path: Path) -> None:
    data = {"notes": ["3 prompts were too long and left out"]}
    evidence = evidence_of(tmp_path, meta={"data": data, "warnings": ["slow: redis://me:hunter2@host"]})
    assert told(evidence) == ["slow: redis://me:***@host", "3 prompts were too long and left out"]


def test_a_bare_run_json_is_enough(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=2, spans=False)
    writer = RunWriter(tmp_path)
    writer.write_meta({})
    writer.close()
    evidence = gather(load(tmp_path))
    assert [arm.engine for arm in evidence.arms] == ["chunkwise", "layerwise"]
    assert evidence.setting("store") == "unknown"
    assert len(evidence.rows) == 4


def test_a_store_url_comes_without_its_password(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, meta={"config": {"store": "shaped+redis://me:hunter2@host:6379/1"}})
    assert evidence.setting("store") == "shaped+redis://me:***@host:6379/1"
