"""Driver and two real workers in processes of their own, over engines that compute nothing."""

import os
import sys
from pathlib import Path

from fake_engine import CHUNK, CHUNKWISE, LAYERWISE, MODEL, SHORT

from harness.experiment.hooks import Hooks
from harness.experiment.lanes.ab import BASE, HEAD, gravest, judge, measure
from harness.experiment.lanes.lane import Program
from harness.experiment.settings import merge
from harness.gate import Outcome
from harness.results import load
from harness.stores import open_store

ARMS = [CHUNKWISE, LAYERWISE]


def test_two_versions_take_turns_and_are_judged(tmp_path: Path) -> None:
    store = f"file://{tmp_path / 'kv'}"
    settings = {"workload": SHORT, "store": store, "arms": ARMS, "model": MODEL, "dtype": "float32", "pairs": 4}
    experiment = merge(settings, {"chunk_tokens": CHUNK, "correctness_prompts": 1, "bounds": False})
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, str(Path(__file__).with_name("fake_lane.py"))]
    programs = {name: Program(command, environment, {"from": name}) for name in (BASE, HEAD)}
    measure(programs, experiment, tmp_path / "run", "ttft ab", Hooks(), patience_s=120)
    run = load(tmp_path / "run")
    assert (run.meta["status"], run.void_runs, run.meta["warnings"]) == ("complete", {}, [])
    forward = [f"{arm}@{side}" for arm in ARMS for side in (BASE, HEAD)]
    assert [entry["arm"] for entry in run.meta["runs"]] == [*forward, *forward[::-1]] * 2
    assert len(run.counted) == 4 * 4 * 4
    assert run.requests.groupby("prompt")["output_digest"].nunique().eq(1).all()
    assert set(run.spans["run"]) == set(run.requests["run"])
    for side in (BASE, HEAD):
        own = load(tmp_path / "run" / side)
        assert (own.meta["status"], own.meta["correctness"]["status"]) == ("complete", "passed")
        assert own.requests["kv_digest"].notna().all()
    with open_store(store) as left:
        assert set(left.keys()) == set()
    verdicts = judge(run, ARMS, {"mean": 0.05}, 0.05)  # every fake request takes the same time
    assert gravest(verdicts).outcome is Outcome.PASS
