"""An interrupted experiment taken up again: what is left, numbered on, and never on another machine or other data."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, SHORT, Lab, Served, lab
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import ResultsError, UsageError
from harness.experiment import record as environment
from harness.experiment.cache_state import schedule
from harness.experiment.record import NOTHING, Earlier, earlier_of, held
from harness.results import Measurement

__all__ = ["lab"]

PLAN = schedule(["a", "b", "c"], 4, ["c"], 2)


def stop_at(label: str) -> Callable[[Served], None]:
    def tamper(served: Served) -> None:
        if served.label == label:
            raise KeyboardInterrupt

    return tamper


def interrupted(lab: Lab, label: str) -> Measurement:
    lab.vllm.tamper = stop_at(label)
    with pytest.raises(KeyboardInterrupt):
        lab.measure()
    lab.vllm.tamper = lambda served: None
    return lab.run()


@settings(deadline=None)
@given(st.sets(st.sampled_from(PLAN)), st.integers(0, 50))
def test_what_is_left_is_what_is_not_finished_numbered_on(done: set[Any], next_run: int) -> None:
    finished = frozenset((planned.round, planned.arm) for planned in done)
    left = Earlier(finished, next_run).left_of(PLAN)
    assert [(one.round, one.arm) for one in left] == [(one.round, one.arm) for one in PLAN if one not in done]
    assert [one.run for one in left] == list(range(next_run, next_run + len(left)))


def test_nothing_done_leaves_the_plan() -> None:
    assert NOTHING.left_of(PLAN) == PLAN


def test_the_interrupted_round_is_done_again_as_a_whole_under_new_numbers(lab: Lab) -> None:
    earlier = earlier_of(interrupted(lab, "5/2"), lab.setting())
    assert earlier.next_run == 6
    assert {pair for pair, _ in earlier.finished} == {0}
    run = lab.measure(earlier)
    assert run.meta["status"] == "complete"
    assert run.void_runs == {4: "interrupted", 5: "interrupted"}, "no pair of runs has a restart of vLLM between them"
    counted = run.counted[["run", "round", "arm"]].drop_duplicates()
    assert sorted(counted["run"]) == [0, 1, 2, 3, *range(6, 13)]
    planned = {(one.round, one.arm) for one in schedule([CHUNKWISE, LAYERWISE, "recompute", "floor"], 3, ["recompute"], 2)}
    assert set(zip(counted["round"], counted["arm"], strict=True)) == planned
    assert len(counted) == len(planned)
    assert (run.counted.groupby("run")["position"].count() == 4).all()
    assert len(run.meta["resumed"]) == 1
    assert lab.left() == set()


def test_a_round_stays_whole_where_the_interruption_came_between_two_rounds(lab: Lab) -> None:
    earlier = earlier_of(interrupted(lab, "4/0"), lab.setting())
    assert {pair for pair, _ in earlier.finished} == {0}
    assert lab.measure(earlier).void_runs == {4: "interrupted"}


def test_a_second_interruption_is_taken_up_too(lab: Lab) -> None:
    first = earlier_of(interrupted(lab, "1/0"), lab.setting())
    assert first.next_run == 2  # run 1 has begun, though it has no row
    lab.vllm.tamper = stop_at("5/1")
    with pytest.raises(KeyboardInterrupt):
        lab.measure(first)
    lab.vllm.tamper = lambda served: None
    run = lab.measure(earlier_of(lab.run(), lab.setting()))
    assert run.meta["status"] == "complete"
    assert run.void_runs == dict.fromkeys(range(6), "interrupted")
    assert len(run.meta["resumed"]) == 2
    assert len(run.counted) == 44


def test_an_entry_whose_round_was_damaged_is_kept_as_it_is(lab: Lab) -> None:
    run = interrupted(lab, "5/2")
    strange: list[Any] = [{}, ["1"], "1", 1e308]
    for damaged in strange:
        run.meta["runs"][0]["round"] = damaged
        assert earlier_of(run, lab.setting()).meta["runs"][0] == run.meta["runs"][0]


def test_a_complete_run_leaves_nothing(lab: Lab) -> None:
    earlier = earlier_of(lab.measure(), lab.setting())
    assert earlier.left_of(schedule(list(lab.setting().arms), 3, ["recompute"], 2)) == []
    assert earlier.next_run == 11


def test_more_rounds_may_be_added(lab: Lab) -> None:
    run = lab.measure(earlier_of(lab.measure(pairs=2), lab.setting()))
    assert sorted(run.counted["round"].unique()) == [0, 1, 2]


def test_tokens_are_held_against_those_from_before_the_interruption(lab: Lab) -> None:
    earlier = earlier_of(interrupted(lab, "3/2"), lab.setting())
    assert {arm for _, arm in earlier.tokens.values()} == {CHUNKWISE}
    assert len(earlier.tokens) == 4

    def other(served: Served) -> None:
        if served.timed and served.arm in (CHUNKWISE, LAYERWISE):
            served.tokens[0] ^= 1

    lab.vllm.tamper = other
    run = lab.measure(earlier)
    assert run.meta["status"] == "void"
    reasons = run.requests["void"].dropna()
    assert set(reasons) == {f"other tokens than {CHUNKWISE} gave for the same prompt"}
    assert set(run.requests[run.requests["void"].notna()]["arm"]) == {CHUNKWISE, LAYERWISE}


def test_a_void_run_stays_void_and_is_no_witness(lab: Lab) -> None:
    def lie(served: Served) -> None:
        if served.label == "0/0":
            served.cached_tokens = 0
            served.tokens[0] ^= 1
        stop_at("2/0")(served)

    lab.vllm.tamper = lie
    with pytest.raises(KeyboardInterrupt):
        lab.measure()
    lab.vllm.tamper = lambda served: None
    earlier = earlier_of(lab.run(), lab.setting())
    assert earlier.tokens["g0p0", 32][1] == LAYERWISE
    run = lab.measure(earlier)
    assert run.meta["status"] == "void"
    assert [entry["run"] for entry in run.meta["void_runs"]] == [0]
    assert run.void_runs == {0: "hit 0 tokens, but the workload implies 32", 1: "interrupted", 2: "interrupted"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload": f"{SHORT},seed=1"}, "its data fingerprint is"),
        ({"store": "mem://elsewhere"}, "its store is"),
    ],
)
def test_another_experiment_is_refused(lab: Lab, changes: dict[str, Any], message: str) -> None:
    run = lab.measure(pairs=1)
    with pytest.raises(UsageError, match=f"cannot be resumed: {message}.*begin a new one"):
        earlier_of(run, lab.setting(**changes))


@pytest.mark.parametrize("name", ["machine", "versions"])
def test_another_machine_or_version_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run = lab.measure(pairs=1)
    monkeypatch.setattr(environment, name, lambda: {"cpu": "another"})
    with pytest.raises(UsageError, match=f"cannot be resumed: its {name} is another one: .*begin a new one") as told:
        earlier_of(run, lab.setting())
    assert "{" not in str(told.value)


def test_a_twin_in_the_cloud_goes_on_and_another_kernel_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.measure(pairs=1)
    here = environment.machine()
    monkeypatch.setattr(environment, "machine", lambda: {**here, "memory_bytes": here["memory_bytes"] - 8192})
    assert earlier_of(run, lab.setting(pairs=2)).meta["warnings"] == []
    monkeypatch.setattr(environment, "machine", lambda: {**here, "kernel": "6.9.9"})
    earlier = earlier_of(run, lab.setting(pairs=2))
    said = f"The measurement was resumed where machine 'kernel' was '{here['kernel']}' before and is '6.9.9'."
    assert earlier.meta["warnings"] == [said]
    assert lab.measure(earlier, pairs=2).meta["warnings"] == [said]


def test_another_version_of_the_harness_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.measure(pairs=1)
    here = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: {**here, "ttft": "0.0.0"})
    with pytest.raises(UsageError, match=r"its version of ttft is .*, here it is 0.0.0; begin a new one"):
        earlier_of(run, lab.setting())


def test_another_binding_of_threads_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.BINDING:  # vLLM sets some of them, in the process of tests that started it
        monkeypatch.delenv(name, raising=False)
    run = lab.measure(pairs=1)
    earlier_of(run, lab.setting())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(
        UsageError, match=r"its binding of threads is another one: OMP_NUM_THREADS was not set and is '1' here; begin a new one"
    ):
        earlier_of(run, lab.setting())


def test_a_folder_without_rows_is_begun_at_the_first_run(lab: Lab) -> None:
    run = lab.measure(pairs=1)
    empty = replace(run, requests=run.requests.iloc[:0], meta={**run.meta, "runs": []})
    earlier = earlier_of(empty, lab.setting())
    assert (earlier.next_run, earlier.finished, dict(earlier.tokens)) == (0, frozenset(), {})


HOLDING = """
import sys, time
from pathlib import Path
from harness.experiment.record import held
with held(Path(sys.argv[1]), "ttft compare disk"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_that_is_being_measured_is_left_alone_and_its_holder_named(lab: Lab) -> None:
    run = interrupted(lab, "5/2")
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, str(run.path)], stdout=subprocess.PIPE, text=True, env=environment)
    assert holder.stdout is not None
    with holder.stdout as out:
        assert out.readline() == "held\n"
    with pytest.raises(UsageError, match=rf"is being measured by process {holder.pid} since .* \(ttft compare disk\); wait for"):
        lab.measure(earlier_of(run, lab.setting()))
    after = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file() and path.name in before}
    assert after == before
    holder.kill()
    holder.wait(10)
    assert lab.measure(earlier_of(run, lab.setting())).meta["status"] == "complete"  # a killed holder holds nothing


def test_a_folder_that_cannot_be_made_is_one_sentence(lab: Lab) -> None:
    lab.folder.write_text("a file")
    with pytest.raises(ResultsError, match=r"cannot be written"):
        lab.measure()


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOLCK, errno.ENOENT, errno.ENOSPC, errno.ENAMETOOLONG])
def test_where_nothing_can_be_locked_the_measurement_goes_on_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.UnixFileLock.acquire", refuse)
    with held(tmp_path / "run", "ttft compare"):
        pass
