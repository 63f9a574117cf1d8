"""``ttft sweep`` over the stand-in engine: what is planned, measured and printed, and the exit codes."""

import json

import pandas as pd
import pytest
from fake_engine import CHUNKWISE, LAYERWISE, Lab, Served, lab
from sweeping import Sweep, sweep

from harness.results import load
from harness.stats import compare

__all__ = ["lab", "sweep"]


LATER = "layerwise:depth=4"


def test_a_dry_run_prints_the_plan_and_starts_nothing(lab: Lab, sweep: Sweep) -> None:
    code, out, err = sweep.measure("--vary", "concurrency=1,2", "--vary", "chunk_tokens=16,32", "--dry-run")
    assert (code, err) == (0, "")
    assert "points    4" in out
    assert "starts    2 starts of vLLM: points 1, 3; 2, 4" in out, "another chunk size needs another start"
    assert "runs      44" in out and "requests  176" in out
    assert "resting on an assumption, 30 s per start and 1 s per request" in out
    assert lab.vllm.engines == [] and not sweep.folder.exists()


def test_points_share_one_start_and_each_is_a_run_of_its_own(lab: Lab, sweep: Sweep) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "ttft_s", 0.03 if served.arm == CHUNKWISE else 0.02)
    code, out, err = sweep.measure("--vary", "workload.prefix=32,64", "--vary", "concurrency=1,2")
    assert (code, err) == (0, "")
    assert len(lab.vllm.engines) == 1 and lab.vllm.engines[0].closed
    assert lab.left() == set(), "no point leaves chunks"
    assert sweep.statuses() == ["complete"] * 4
    for number, (prefix, concurrency) in enumerate([(32, 1), (32, 2), (64, 1), (64, 2)], 1):
        run = load(sweep.run_folder(number))
        assert run.meta["status"] == "complete" and len(run.counted) == 44
        assert run.meta["config"]["concurrency"] == concurrency
        assert f"prefix={prefix}" in run.meta["config"]["workload"]
        assert run.meta["correctness"]["status"] == "passed"
        assert set(run.counted.loc[run.counted["arm"] == CHUNKWISE, "hit_tokens"]) == {prefix}
        assert len(run.spans[run.spans["kind"] == "fetch"]) == 24, "spans of other points do not mix in"
    longest = {json.loads((sweep.run_folder(n) / "run.json").read_text())["config"]["max_model_len"] for n in (1, 2, 3, 4)}
    assert len(longest) == 1
    assert "layerwise:depth=2 is faster than chunkwise:pool=0 at all 4 points (p50 ratio 0.67)" in out


def test_every_number_of_the_table_is_that_of_the_requests(lab: Lab, sweep: Sweep) -> None:
    times = iter(range(10_000))
    lab.vllm.tamper = lambda served: setattr(served, "ttft_s", 0.02 + 0.001 * (next(times) * 7919 % 23))
    sweep.measure("--vary", "concurrency=1,2")
    table = sweep.table
    assert sorted(table["metric"].unique()) == ["mean", "p50"], "four requests a run tell no tail"
    for number in (1, 2):
        rows = load(sweep.run_folder(number)).counted
        for metric in ("mean", "p50"):
            found = compare(rows, CHUNKWISE, LAYERWISE, [metric])[0]
            here = table[(table["point"] == number) & (table["arm"] == LAYERWISE) & (table["metric"] == metric)].iloc[0]
            assert here["ratio"] == pytest.approx(found.ratio)
            assert (here["ratio_low"], here["ratio_high"]) == (pytest.approx(found.low), pytest.approx(found.high))
            assert (here["n_pairs"], here["n_requests"], here["base"]) == (3, 12, CHUNKWISE)
            assert (here["concurrency"], here["status"]) == (number, "complete")
            assert "3 pairs: the interval assumes normal noise" in here["warnings"]
        means = rows[rows["arm"] == LAYERWISE].groupby("run")["ttft_s"].mean()
        here = table[(table["point"] == number) & (table["arm"] == LAYERWISE) & (table["metric"] == "mean")].iloc[0]
        walsh = [(a + b) / 2 for i, a in enumerate(means) for b in list(means)[i:]]
        assert here["seconds"] == pytest.approx(pd.Series(walsh).median())
    base = table[(table["arm"] == CHUNKWISE) & (table["metric"] == "p50")]
    assert base["ratio"].tolist() == [1.0, 1.0] and base["ratio_low"].isna().all()
    assert pd.read_parquet(sweep.folder / "sweep.parquet").shape == table.shape


def test_values_of_an_engines_option_are_arms_of_one_run(lab: Lab, sweep: Sweep) -> None:
    code, _, _ = sweep.measure("--vary", "layerwise.depth=2,4")
    assert code == 0
    table = sweep.table
    assert table["point"].unique().tolist() == [1]
    depths = table[table["metric"] == "p50"].set_index("arm")["layerwise.depth"]
    assert depths[[LAYERWISE, LATER]].tolist() == [2.0, 4.0]
    assert pd.isna(depths[CHUNKWISE])


def test_a_point_that_fails_is_told_and_the_others_go_on(lab: Lab, sweep: Sweep) -> None:
    def lose(served: Served) -> None:
        if served.label == "0/3" and len(served.prompt) == 69:
            with lab.open() as store:
                store.delete(list(store.keys()))

    lab.vllm.tamper = lose
    code, out, err = sweep.measure("--vary", "workload.prefix=32,64,48")
    assert code == 2
    assert "error: 1 of 3 points failed, the first (workload.prefix=64): " in err and "there is no object" in err
    assert err.count("\n") == 1
    assert sweep.statuses() == ["complete", "failed", "complete"]
    assert "1 OF 3 POINTS FAILED" in out
    failed = sweep.table[sweep.table["point"] == 2]
    assert len(failed) == 1 and failed["arm"].isna().all() and "there is no object" in failed["reason"].iloc[0]
    assert len(lab.vllm.engines) == 2, "after a failure vLLM is started anew"
    assert lab.left() == set()
    lab.vllm.tamper = lambda served: None
    code, out, err = sweep("--resume", str(sweep.folder))
    assert (code, err) == (0, "")
    assert sweep.statuses() == ["complete"] * 3
    assert len(lab.vllm.engines) == 3, "only the one that failed is measured again"


def test_a_store_that_cannot_be_opened_fails_its_points_alone(lab: Lab, sweep: Sweep) -> None:
    (lab.home / "file").write_text("in the way")
    code, _, err = sweep.measure("--vary", f"store=file://{lab.home / 'file' / 'kv'},{lab.store_url}")
    assert code == 2 and "1 of 2 points failed" in err
    assert sweep.statuses() == ["failed", "complete"]


def test_void_runs_of_a_point_are_told_and_end_with_code_4(lab: Lab, sweep: Sweep) -> None:
    def miss(served: Served) -> None:
        if served.label == "1/2" and len(served.prompt) == 37:
            served.cached_tokens = 0

    lab.vllm.tamper = miss
    code, out, err = sweep.measure("--vary", "workload.prefix=32,64")
    assert code == 4
    assert "1 of 2 points are void in part, the first (workload.prefix=32): hit 0 tokens" in err
    assert sweep.statuses() == ["void", "complete"]
    assert "1 OF 2 POINTS HAVE VOID RUNS" in out
    assert len(lab.vllm.engines) == 2, "the next point does not inherit whatever went wrong"
    rows = sweep.table[(sweep.table["point"] == 1) & (sweep.table["arm"] == LAYERWISE)]
    assert set(rows["n_pairs"]) == {2} and rows["warnings"].str.contains("VOID").all()


def test_outside_float32_all_proofs_come_in_one_start_and_all_times_in_another(lab: Lab, sweep: Sweep) -> None:
    code, _, err = sweep.measure("--vary", "workload.prefix=32,64,48", "--set", "dtype=bfloat16")
    assert (code, err) == (0, "")
    assert [engine.settings.dtype for engine in lab.vllm.engines] == ["float32", "bfloat16"]
    assert [load(sweep.run_folder(n)).meta["correctness"]["status"] for n in (1, 2, 3)] == ["passed"] * 3
    assert lab.left() == set()


def test_a_proof_that_fails_fails_its_point(lab: Lab, sweep: Sweep) -> None:
    def wrong(served: Served) -> None:
        if served.label.startswith("correctness") and served.arm == LAYERWISE and len(served.prompt) == 65:
            served.tokens[0] += 1

    lab.vllm.tamper = wrong
    code, _, err = sweep.measure("--vary", "workload.prefix=32,64", "--set", "dtype=bfloat16")
    assert code in (2, 4)
    assert "layerwise:depth=2 is not correct, so nothing was timed" in err
    assert sweep.statuses() == ["complete", "failed"]
    assert load(sweep.run_folder(2)).meta["correctness"]["status"] == "failed"


def test_an_option_that_a_varied_setting_would_lose_is_refused(lab: Lab, sweep: Sweep) -> None:
    code, _, err = sweep.measure("--vary", "workload=shared_prefix|long_doc", "--set", "workload.prefix=64")
    assert code == 2 and "workload is varied as a whole, so --set workload.prefix would be lost" in err
    assert lab.vllm.engines == []


def test_what_is_varied_cannot_be_set_as_well(lab: Lab, sweep: Sweep) -> None:
    code, _, err = sweep.measure("--vary", "concurrency=1,2", "--set", "concurrency=4")
    assert code == 2 and "concurrency is varied, so '4' cannot be set for all points as well" in err
    both = {"concurrency": "4,5", "page_cache": "dropped,warm", "cache_state": "natural,primed"}
    for key, values in both.items():
        value = values.partition(",")[0]
        code, _, err = sweep.measure("--vary", f"{key}={values}", f"--{key.replace('_', '-')}", value)
        assert code == 2 and f"{key} is varied, so '{value}' cannot be set for all points as well" in err
    assert lab.vllm.engines == []


def test_neighbours_stand_in_the_table_beside_the_floor(lab: Lab, sweep: Sweep) -> None:
    code, _, err = sweep.measure("--vary", "concurrency=1,2", "--set", "neighbours=1")
    assert (code, err) == (0, "")
    gaps = sweep.table[sweep.table["metric"] == "gap_p95"]
    assert set(gaps["base"]) == {"floor"} and set(gaps["point"]) == {1, 2}
    assert (gaps.loc[gaps["arm"] == "floor", "ratio"] == 1).all()
    text = (sweep.folder / "sweep.md").read_text()
    assert "## The neighbours" in text and "p95 gap between tokens" in text
