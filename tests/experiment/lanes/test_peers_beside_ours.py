"""Ours and peers in turns, over scripted workers: whose turn it is, and that a peer's failure is its own."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from lining_up import FIRST, OURS, SECOND, Lineup, lineup, workers

from harness.core.errors import RunError, TtftError, VoidRuns
from harness.core.findings import Kind
from harness.experiment.lanes.peers import lanes_of
from harness.experiment.lanes.process import Worker
from harness.results.evidence import gather

__all__ = ["lineup"]

LAYERWISE = "layerwise:depth=2"


@pytest.fixture(autouse=True)
def clean(lineup: Lineup) -> Iterator[None]:
    """However it ended: no process, and nothing in the store."""
    yield
    assert workers() == set()
    assert lineup.left() == []


def order(lineup: Lineup) -> list[str]:
    return [entry["arm"] for entry in lineup.run().meta["runs"]]


def test_ours_share_a_process_and_each_peer_has_its_own(lineup: Lineup) -> None:
    arms = [FIRST, OURS, SECOND, LAYERWISE]
    found = lanes_of(lineup.setting(arms=arms, bounds=True), lineup.folder, lineup.told, 1.0)
    assert [(lane.name, lane.arms, lane.peer) for lane in found] == [
        ("ours", [OURS, LAYERWISE, "recompute", "floor"], False),
        (FIRST, [FIRST], True),
        (SECOND, [SECOND], True),
    ]
    assert [lane.folder.name for lane in found] == ["0-ours", "1-example", "2-connector-Other"]
    assert not any(lane.experiment.bounds for lane in found)


def test_rounds_go_through_the_processes_forwards_and_backwards(lineup: Lineup) -> None:
    run = lineup.measure(arms=[FIRST, OURS, LAYERWISE, SECOND], pairs=3)
    forward = [OURS, LAYERWISE, FIRST, SECOND]
    assert order(lineup) == [*forward, *forward[::-1], *forward]
    assert all(entry["done"] for entry in run.meta["runs"])
    assert (run.meta["status"], run.void_runs, run.meta["failed_arms"], run.meta["warnings"]) == ("complete", {}, [], [])
    rows = run.requests
    assert rows["run"].tolist() == [number for number in range(12) for _ in range(12)]
    assert rows.groupby("run")["arm"].first().tolist() == order(lineup)
    assert rows.groupby("run")["round"].first().tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [arm["name"] for arm in run.meta["arms"]] == [FIRST, OURS, LAYERWISE, SECOND]  # as the user named them


def test_no_two_are_ever_under_way_together(lineup: Lineup) -> None:
    run = lineup.measure(pairs=4)
    lanes = {OURS: "0-ours", FIRST: "1-example", SECOND: "2-connector-Other"}
    turns = {arm: (lineup.folder / "lanes" / name / "turns.txt").read_text().splitlines() for arm, name in lanes.items()}
    in_time = [arm for _, arm in sorted((int(line.split()[0]), arm) for arm, lines in turns.items() for line in lines)]
    assert in_time == [entry["arm"] for entry in run.meta["runs"]]


def test_progress_counts_all_and_names_who_speaks(lineup: Lineup) -> None:
    lineup.measure()
    assert lineup.told.requests == len(lineup.told.times) == 2 * 3 * 12
    assert lineup.told.stages[:3] == ["ours: starting", f"{FIRST}: starting", f"{SECOND}: starting"]


def test_what_each_has_found_out_stands_in_run_json(lineup: Lineup) -> None:
    meta = json.loads(json.dumps(lineup.measure().meta))
    assert set(meta["peers"]) == {FIRST, SECOND}
    assert meta["peers"][FIRST]["correctness"] == {"status": "passed"}
    assert meta["correctness"] == {"status": "passed"}
    assert meta["idle_cpu_s"] == {"ours": 0.0, FIRST: 0.0, SECOND: 0.0}


def test_other_tokens_than_ours_void_the_peers_runs(lineup: Lineup) -> None:
    lineup.scripts = {FIRST: {"tokens": "bb"}}
    run = lineup.measure()
    assert run.meta["status"] == "void"
    mine = [number for number, arm in enumerate(order(lineup)) if arm == FIRST]
    assert run.void_runs == dict.fromkeys(mine, f"other tokens than {OURS} gave for the same prompt")
    assert set(run.counted["arm"]) == {OURS, SECOND}


def test_tokens_of_a_batch_are_not_compared(lineup: Lineup) -> None:
    lineup.scripts = {FIRST: {"tokens": "bb"}}
    assert lineup.measure(concurrency=2, pairs=1).meta["status"] == "complete"


FAILURES: list[tuple[dict[str, Any], str]] = [
    ({"fail": "vLLM did not start: no memory"}, f"the arm {FIRST} failed while getting ready: vLLM did not start: no memory"),
    ({"at": 0, "do": "crash"}, f"the arm {FIRST} ended with exit code 1 while in run 1 ({FIRST}): MemoryError: no room"),
    ({"at": 1, "do": "crash"}, f"the arm {FIRST} ended with exit code 1 while in run 4 ({FIRST}): MemoryError: no room"),
    ({"at": 1, "do": "be killed"}, f"the arm {FIRST} was killed by signal 9 while in run 4 ({FIRST})"),
    ({"at": 1, "do": "lose rows"}, f"the arm {FIRST} said that its run 1 is done, but left 0 rows of it"),
    ({"at": 0, "do": "babble"}, "is no message; something other than the worker writes to its pipe"),
]


@pytest.mark.parametrize(("script", "reason"), FAILURES, ids=[str(list(script.values())[-1]) for script, _ in FAILURES])
def test_a_peer_that_fails_is_noted_and_the_others_go_on(lineup: Lineup, script: Mapping[str, Any], reason: str) -> None:
    lineup.scripts = {FIRST: dict(script)}
    run = lineup.measure(pairs=3)
    (failed,) = run.meta["failed_arms"]
    assert failed["arm"] == FIRST
    assert reason in failed["reason"]
    assert run.meta["status"] == "complete"
    for arm in (OURS, SECOND):
        assert (run.counted["arm"] == arm).sum() == 3 * 12
    before = [entry for entry in run.meta["runs"] if entry["arm"] == FIRST and entry["done"]]
    assert (run.counted["arm"] == FIRST).sum() == 12 * len(before) == 12 * max(0, script.get("at", 0))
    notes = [stage for stage in lineup.told.stages if stage.startswith("note: ")]
    assert len(notes) == 1 and notes[0].endswith("the others go on without it")
    assert run.meta["warnings"] == []
    assert (Kind.ARM_FAILED, FIRST) in [(one.kind, one.subject) for one in gather(run).findings]


@pytest.mark.parametrize("how", ["hang", "hang hard"])
def test_a_peer_that_hangs_is_given_up(lineup: Lineup, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker.__init__, "__defaults__", (0.2,))
    lineup.scripts = {SECOND: {"at": 0, "do": how}}
    run = lineup.measure(patience_s=1.0)
    (failed,) = run.meta["failed_arms"]
    assert f"the arm {SECOND} has said nothing for 1 s while in run 2" in failed["reason"]
    assert failed["reason"].endswith("and take fewer prompts per run if it is only slow")  # compare has no --timeout
    assert (run.meta["status"], set(run.counted["arm"])) == ("complete", {OURS, FIRST})


def test_both_peers_may_fail(lineup: Lineup) -> None:
    lineup.scripts = {FIRST: {"fail": "no"}, SECOND: {"at": 1, "do": "crash"}}
    run = lineup.measure()
    assert [failed["arm"] for failed in run.meta["failed_arms"]] == [FIRST, SECOND]
    assert (run.counted["arm"] == OURS).sum() == 2 * 12


def test_a_peer_that_failed_is_ended_once(lineup: Lineup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later on the number of its process group may be somebody else's."""
    ended: list[str] = []
    end = Worker.end

    def note(worker: Worker) -> bool:
        ended.append(worker.called)
        return end(worker)

    monkeypatch.setattr(Worker, "end", note)
    lineup.scripts = {FIRST: {"at": 0, "do": "crash"}}
    lineup.measure()
    assert sorted(ended) == ["arm connector:Other", "arm example", "process of our own arms"]


@pytest.mark.parametrize("at", [-1, 1])
def test_ours_failing_ends_it(lineup: Lineup, at: int) -> None:
    lineup.scripts = {"ours": {"fail": "no memory"} if at < 0 else {"at": at, "do": "crash"}}
    with pytest.raises(RunError, match=r"the process of our own arms (failed|ended)"):
        lineup.measure()
    run = lineup.run()
    assert run.meta["status"] == "partial"
    assert "the process of our own arms" in run.meta["ended_by"]
    assert run.meta["failed_arms"] == []


@pytest.mark.parametrize("script", [{"fail": "no memory"}, {"at": 1, "do": "crash"}])
def test_where_nobody_is_left_there_is_no_result(lineup: Lineup, script: dict[str, Any]) -> None:
    lineup.scripts = {FIRST: script, SECOND: script}
    with pytest.raises(RunError, match=r"no arm is left to measure: the arm \S+ (failed|ended)"):
        lineup.measure(arms=[FIRST, SECOND])
    run = lineup.run()
    assert run.meta["status"] == "partial"
    assert sorted(failed["arm"] for failed in run.meta["failed_arms"]) == [SECOND, FIRST]
    assert len(run.requests) == 2 * 12 * max(0, script.get("at", 0))


def test_peers_alone_hold_their_tokens_against_each_other(lineup: Lineup) -> None:
    run = lineup.measure(arms=[FIRST, SECOND])
    assert (run.meta["status"], run.meta["correctness"]) == ("complete", {"status": "passed"})
    assert set(run.counted["arm"]) == {FIRST, SECOND}


class AfterOne:
    """Ends it after the first round."""

    declared: Mapping[str, Any] = {"plan": {"looks": [1]}}
    needs_all = False

    def after_round(self, rounds: int) -> str | None:
        return "that is enough"


def test_whoever_watches_may_end_it_after_a_round(lineup: Lineup) -> None:
    run = lineup.measure(AfterOne(), pairs=5)
    assert order(lineup) == [OURS, FIRST, SECOND]
    assert run.meta["stopped"] == {"rounds": 1, "reason": "that is enough"}
    assert run.meta["plan"] == {"looks": [1]}
    assert (run.meta["status"], len(run.counted), run.meta["failed_arms"]) == ("complete", 3 * 12, [])


def test_a_peer_whose_engine_is_gone_is_left_behind(lineup: Lineup) -> None:
    """Its process still answers, with an error for every request."""
    lineup.scripts = {FIRST: {"at": 1, "do": "fail requests"}}
    run = lineup.measure(pairs=3)
    assert [entry["arm"] for entry in run.meta["failed_arms"]] == [FIRST]
    assert run.meta["failed_arms"][0]["reason"].endswith("failed every request of run 4: EngineDeadError: no memory")
    assert order(lineup).count(FIRST) == 2
    assert order(lineup).count(OURS) == order(lineup).count(SECOND) == 3


class NeedsAll:
    """As a gate, which has nothing to judge without both of its arms."""

    declared: Mapping[str, Any] = {}
    needs_all = True

    def after_round(self, rounds: int) -> str | None:
        return None


def test_a_peer_that_a_gate_cannot_do_without_ends_it(lineup: Lineup) -> None:
    lineup.scripts = {FIRST: {"at": 1, "do": "crash"}}
    with pytest.raises(RunError, match="MemoryError: no room"):
        lineup.measure(NeedsAll(), pairs=5)
    assert order(lineup) == [OURS, FIRST, SECOND, SECOND, FIRST]


@pytest.mark.parametrize(("code", "error"), [(VoidRuns.exit_code, VoidRuns), (2, RunError)])
def test_ours_failing_a_proof_ends_as_void(lineup: Lineup, code: int, error: type[TtftError]) -> None:
    lineup.scripts = {"ours": {"fail": "the correctness pass failed", "code": code}}
    with pytest.raises(TtftError, match="our own arms failed while getting ready: the correctness pass failed") as caught:
        lineup.measure()
    assert type(caught.value) is error


def test_ctrl_c_ends_all_and_keeps_the_rows(lineup: Lineup) -> None:
    def interrupt() -> None:
        hanging = lineup.folder / "lanes" / "1-example" / "turns.txt"
        deadline = time.monotonic() + 30
        while not hanging.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    lineup.scripts = {FIRST: {"at": 0, "do": "hang"}}
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        lineup.measure()
    run = lineup.run()
    assert (run.meta["status"], run.meta["ended_by"], run.meta["failed_arms"]) == ("partial", "KeyboardInterrupt", [])
    assert run.void_runs == {1: "interrupted"}
    assert set(run.counted["arm"]) == {OURS}
