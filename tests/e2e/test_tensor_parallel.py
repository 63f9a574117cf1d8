"""A whole comparison with tensor parallelism 2: each rank saves, loads and proves its own heads under its own keys."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import SMALL_MODEL, two_ranks

from harness.core.chunks import KVGeometry, Layout
from harness.results import Measurement, load

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ARMS = ("chunkwise:pool=0", "chunkwise:pool=2", "layerwise:depth=2")
HIT = 512  # tokens, two chunks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "harness", "compare", "--model", SMALL_MODEL, "--dtype", "float32", "--pairs", "2"]
    command += ["--workload", f"shared_prefix:groups=2,prefix={HIT},suffix=40,prompts=1", "--store", f"file://{folder / 'store'}"]
    command += ["--set", "kv_cache_gib=0.25", "--set", "tensor_parallel=2", "--out", str(folder / "run")]
    for arm in ARMS:
        command += ["--arm", arm]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500, env={**os.environ, **two_ranks()})
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Measurement:
    return load(folder / "run")


def records(folder: Path, rank: int, kind: str) -> list[dict[str, object]]:
    """What the connector of a rank traced."""
    lines = (folder / "run" / "span_log" / f"worker-{rank}.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_every_row_is_there_hits_and_is_proven(run: Measurement) -> None:
    assert (run.meta["status"], run.meta["correctness"]["status"], run.void_runs) == ("complete", "passed", {})
    assert run.meta["config"]["tensor_parallel"] == 2
    rows = run.requests
    assert len(rows) == 2 * 5 * 2 and rows["error"].isna().all()
    loading = rows[rows["arm"].isin(ARMS)]
    assert (loading["hit_tokens"] == HIT).all() and loading["kv_digest"].notna().all()
    assert (rows[rows["arm"] == "recompute"]["hit_tokens"] == 0).all()


def test_the_engines_give_the_same_bytes_and_all_give_the_tokens_of_recompute(run: Measurement) -> None:
    rows = run.requests
    assert rows[rows["arm"].isin(ARMS)].groupby("prompt")["kv_digest"].nunique().eq(1).all()
    assert rows[rows["arm"] != "floor"].groupby("prompt")["output_digest"].nunique().eq(1).all()


def test_a_hit_reads_an_object_of_each_rank_that_together_are_what_one_rank_would_read(run: Measurement) -> None:
    geometry = KVGeometry(**run.meta["geometry"])
    chunks, layers = HIT // run.meta["config"]["chunk_tokens"], geometry.layers
    rows = run.requests
    chunkwise, layerwise = rows[rows["arm"] == "chunkwise:pool=0"], rows[rows["arm"] == "layerwise:depth=2"]
    assert set(chunkwise["keys"]) == {2 * chunks}
    assert set(layerwise["keys"]) == {2 * chunks * layers}
    heads, width, element = 4, 64, 4  # of the small model in float32
    whole = HIT * layers * 2 * heads * width * element
    assert set(chunkwise["bytes"]) == {whole + 2 * chunks * Layout(geometry).header_bytes}


def test_each_rank_saves_under_its_own_keys_and_the_store_is_clean_afterwards(folder: Path) -> None:
    saved = [[str(record["key"]) for record in records(folder, rank, "save")] for rank in (0, 1)]
    assert all(key.endswith(f"-r{rank}of2") for rank in (0, 1) for key in saved[rank])
    assert [key[:32] for key in saved[0]] == [key[:32] for key in saved[1]] and len(saved[0]) >= 2 * 2
    sums = [[record["checksums"] for record in records(folder, rank, "save")] for rank in (0, 1)]
    assert all(a != b for a, b in zip(*sums, strict=True)), "two ranks hold other heads, so other bytes"
    assert [path for path in (folder / "store").rglob("*") if path.is_file()] == []


def test_both_ranks_load_in_every_timed_request(folder: Path, run: Measurement) -> None:
    labels = [{str(record["label"]) for record in records(folder, rank, "load")} for rank in (0, 1)]
    assert labels[0] == labels[1]
    assert len(labels[0]) >= len(run.requests[run.requests["arm"].isin(ARMS)])
