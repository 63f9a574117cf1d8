"""A sweep over real vLLM: two lengths and two concurrencies in one start, proven like any run, the store left empty."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from running import SMALL_MODEL, complaints

from harness.results import load

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    folder = tmp_path_factory.mktemp("sweep")
    options = ["--model", SMALL_MODEL, "--workload", "shared_prefix:groups=2,prefix=256,suffix=40,prompts=2", "--pairs", "2"]
    options += ["--arm", "chunkwise:pool=0", "--arm", "layerwise:depth=4", "--store", f"file://{folder / 'store'}"]
    options += [word for text in ("kv_cache_gib=0.25", "dtype=float32", "bounds=false") for word in ("--set", text)]
    options += ["--vary", "workload.prefix=256,768", "--vary", "concurrency=1,2", "--out", str(folder / "sweep")]
    words = [sys.executable, "-m", "harness", "sweep", *options]
    return folder, subprocess.run(words, capture_output=True, text=True, timeout=600)


def test_all_points_are_measured_in_one_start_and_proven(swept: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder, ended = swept
    assert (ended.returncode, complaints(ended.stderr)) == (0, []), ended.stdout
    points = sorted((folder / "sweep" / "points").iterdir())
    assert len(points) == 4
    for place, (prefix, concurrency) in zip(points, [(256, 1), (256, 2), (768, 1), (768, 2)], strict=True):
        run = load(place)
        assert run.meta["status"] == "complete" and run.meta["correctness"]["status"] == "passed"
        assert (run.meta["config"]["concurrency"], run.meta["config"]["max_model_len"]) == (concurrency, 1024)
        assert len(run.counted) == 2 * 2 * 4
        assert (run.counted["hit_tokens"] == prefix).all() and run.counted["kv_digest"].notna().all()
        assert run.counted.groupby("prompt")["kv_digest"].nunique().eq(1).all()
    assert [path.name for path in (folder / "sweep" / "starts").iterdir()] == ["1"]
    assert not list((folder / "store").rglob("*.kv")), "chunks were left in the store"


def test_its_table_has_every_point(swept: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    table = pd.read_csv(swept[0] / "sweep" / "sweep.csv")
    assert set(zip(table["workload.prefix"], table["concurrency"], strict=True)) == {(256, 1), (256, 2), (768, 1), (768, 2)}
    assert (table["ratio"] > 0).all() and (table["seconds"] > 0).all()
    assert (swept[0] / "sweep" / "pictures" / "map.png").exists()
