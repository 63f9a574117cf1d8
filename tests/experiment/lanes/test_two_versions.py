"""The driver over scripted workers: whose turn it is, what the combined folder holds, and how every failure ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import driving
import pytest
from driving import ARM, BASE, HEAD, Bench, bench, program

from harness.core.errors import RunError, UsageError
from harness.experiment.lanes.process import Worker
from harness.stores import open_store

__all__ = ["bench"]


def names(*arms: str) -> list[str]:
    return [f"{arm}@{side}" for arm in arms for side in (BASE, HEAD)]


def test_runs_alternate_and_the_combined_folder_is_a_run_like_any_other(bench: Bench) -> None:
    run = bench.measure(program(BASE), program(HEAD, ttft_s=0.03), pairs=3)
    base, head = names(ARM)
    assert [entry["arm"] for entry in run.meta["runs"]] == [base, head, head, base, base, head]
    assert all(entry["done"] for entry in run.meta["runs"])
    assert (run.meta["status"], run.void_runs) == ("complete", {})
    assert [arm["name"] for arm in run.meta["arms"]] == run.meta["config"]["arms"] == [base, head]
    assert run.meta["correctness"]["status"] == "passed"
    rows = run.requests
    assert rows["run"].tolist() == [number for number in range(6) for _ in range(12)]
    assert rows.groupby("run")["arm"].first().tolist() == [base, head, head, base, base, head]
    assert rows.groupby("run")["round"].first().tolist() == [0, 0, 1, 1, 2, 2]
    assert rows[rows["arm"] == head]["ttft_s"].min() > rows[rows["arm"] == base]["ttft_s"].max()
    assert len(run.counted) == 72


def test_several_arms_keep_their_order_and_both_sides_come_before_the_next_arm(bench: Bench) -> None:
    run = bench.measure(program(BASE), program(HEAD), arms=["chunkwise", "layerwise"])
    forward = names("chunkwise", "layerwise")
    assert [entry["arm"] for entry in run.meta["runs"]] == forward + forward[::-1]
    assert [arm["name"] for arm in run.meta["arms"]] == forward


def test_no_two_sides_are_ever_under_way_together(bench: Bench) -> None:
    run = bench.measure(program(BASE), program(HEAD), pairs=4)
    lines = {side: (bench.folder / side / "turns.txt").read_text().splitlines() for side in (BASE, HEAD)}
    in_time = [side for _, side in sorted((int(line.split()[0]), side) for side, taken in lines.items() for line in taken)]
    assert in_time == [entry["arm"].rpartition("@")[2] for entry in run.meta["runs"]]


def test_progress_names_the_side_and_counts_both(bench: Bench) -> None:
    bench.measure(program(BASE), program(HEAD))
    assert bench.told.stages == ["base: starting", "head: starting", "base: stopping vLLM", "head: stopping vLLM"]
    assert bench.told.requests == len(bench.told.times) == 48
    assert {arm for arm, _ in bench.told.times} == set(names(ARM))


def test_only_what_differs_from_its_default_is_asked_of_a_side(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, Any]] = []
    start = Worker.start

    def note(worker: Worker, command: Any, environment: Any, experiment: Mapping[str, Any], said: str) -> None:
        asked.append(experiment)
        start(worker, command, environment, experiment, said)

    monkeypatch.setattr(Worker, "start", note)
    bench.measure(program(BASE), program(HEAD), chunk_tokens=128)
    assert asked == [{"arms": [ARM], "pairs": 2, "store": bench.store, "chunk_tokens": 128}] * 2


def test_other_tokens_void_the_run_that_gave_them(bench: Bench) -> None:
    run = bench.measure(program(BASE), program(HEAD, tokens="bb"))
    base, _ = names(ARM)
    assert run.meta["status"] == "void"
    assert run.void_runs == dict.fromkeys((1, 2), f"other tokens than {base} gave for the same prompt")
    assert set(run.counted["arm"]) == {base}


@pytest.mark.parametrize("settings", [{"concurrency": 2}, {"arrivals": "poisson:rate=2"}, {"neighbours": 1}])
def test_tokens_of_a_batch_are_not_compared(bench: Bench, settings: dict[str, Any]) -> None:
    assert bench.measure(program(BASE), program(HEAD, tokens="bb"), pairs=1, **settings).meta["status"] == "complete"


FAILURES: list[tuple[dict[str, Any], str]] = [
    ({"fail": "vLLM did not start: no memory"}, "the head failed while getting ready: vLLM did not start: no memory"),
    (
        {"at": 1, "do": "crash"},
        r"the head ended with exit code 1 while in run 3 \(.*@head\): MemoryError: no room",
    ),
    ({"at": 1, "do": "be killed"}, r"the head was killed by signal 9 while in run 3"),
    ({"at": 1, "do": "lose rows"}, "the head said that its run 1 is done, but left 0 rows of it"),
    ({"at": 1, "do": "babble"}, "is no message; something other than the worker writes to its pipe"),
    ({"order": -1}, "the two versions plan their runs in different orders"),
    ({"settings": {"chunk_tokens": 512}}, "do not measure the same: setting 'chunk_tokens' is not given in .* '512'"),
    (
        {"home": Path("/home/of/head")},
        "the head runs the harness in /somewhere/.*, not the one that was installed",
    ),
]


@pytest.mark.parametrize(("script", "sentence"), FAILURES, ids=[str(list(script.values())[-1]) for script, _ in FAILURES])
def test_a_side_that_fails_is_named_and_nothing_stays_behind(bench: Bench, script: dict[str, Any], sentence: str) -> None:
    with open_store(bench.store) as store:
        store.write("a" * 32, [b"what a killed side left"])
    with pytest.raises(RunError, match=sentence):
        bench.measure(program(BASE), program(HEAD, **script), arms=["chunkwise", ARM])
    run = bench.run()
    assert run.meta["status"] == "partial"
    assert run.meta["ended_by"]
    if "at" in script:
        assert len(run.requests) >= 2 * 12  # the first run of both sides is kept
        assert not run.meta["runs"][-1]["done"]
    with open_store(bench.store) as store:
        assert set(store.keys()) == (set() if script.get("do") == "be killed" else {"a" * 32})
    assert children() == set()


def test_a_package_that_is_not_used_is_refused(bench: Bench) -> None:
    """Both sides would run the same code, and the gate would pass."""
    with pytest.raises(UsageError, match="nothing of some-engine was loaded for these arms"):
        bench.measure(program(BASE), program(HEAD, loaded=0, ours=False, home=Path("/home/of/head")))
    assert children() == set()


@pytest.mark.parametrize("how", ["hang", "hang hard"])
def test_a_side_that_hangs_is_ended(bench: Bench, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.experiment.lanes.process.Worker.__init__.__defaults__", (0.2,), raising=False)
    with pytest.raises(RunError, match=r"the base has said nothing for 1 s while in run 0 .*; see .*worker.log"):
        bench.measure(program(BASE, at=0, do=how), program(HEAD), patience_s=1.0)
    assert bench.run().meta["status"] == "partial"
    assert children() == set()


def test_ctrl_c_ends_both_sides_and_keeps_the_rows(bench: Bench) -> None:
    def interrupt() -> None:
        wait_for(lambda: (bench.folder / HEAD / "turns.txt").exists())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        bench.measure(program(BASE), program(HEAD, at=0, do="hang"))
    run = bench.run()
    assert (run.meta["status"], run.meta["ended_by"]) == ("partial", "KeyboardInterrupt")
    assert run.void_runs == {1: "interrupted"}
    assert len(run.counted) == 12
    assert children() == set()


def test_what_a_side_used_while_it_had_no_turn_is_told(bench: Bench) -> None:
    run = bench.measure(program(BASE), program(HEAD))
    assert run.meta["idle_cpu_s"] == {BASE: 0.0, HEAD: 0.0}
    assert json.loads((bench.folder / "run.json").read_text())["lanes"][BASE]["from"] == BASE


KILLED = """
import sys
from pathlib import Path
from driving import BASE, HEAD, Bench, program
bench = Bench(Path(sys.argv[1]))
bench.measure(program(BASE), program(HEAD, at=0, do="hang"))
"""


def test_a_driver_that_is_killed_leaves_no_process_stopped_or_running(bench: Bench) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, Path(driving.__file__).parent)))}
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).resolve().parents[3])
    driver = subprocess.Popen([sys.executable, "-c", KILLED, str(bench.home)], env=environment)
    wait_for(lambda: (bench.folder / HEAD / "turns.txt").exists())  # now the base is stopped, and the head hangs
    lanes = children(driver.pid)
    driver.kill()
    driver.wait(10)
    assert len(lanes) == 2
    wait_for(lambda: not any(Path("/proc", lane).exists() for lane in lanes))


def test_a_lane_ends_by_itself_also_if_this_process_ignores_ctrl_c(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a background job of a script does; else every lane would take a minute to be ended by force, its store left full."""
    clean: list[bool] = []
    end = Worker.end

    def note(worker: Worker) -> bool:
        clean.append(end(worker))
        return clean[-1]

    monkeypatch.setattr(Worker, "end", note)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(RunError):
            bench.measure(program(BASE), program(HEAD, fail="no memory"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert clean[-1]  # the base, which was waiting; the head had ended by itself


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def children(parent: int | None = None) -> set[str]:
    """Scripted workers of a process, by default this one, that still run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, of = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(of) == (parent or os.getpid()) and state != "Z" and "scripted_worker" in path.with_name("cmdline").read_text():
            found.add(path.parent.name)
    return found
