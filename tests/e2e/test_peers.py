"""Other connectors beside ours with real vLLM: LMCache's two engines and vLLM's ExampleConnector, and one that there is not."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import CHUNK, SMALL_MODEL, complaints
from servers import lacking

from harness.results import Measurement, load

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

OURS, LMCACHE, LAYERWISE, EXAMPLE = (
    "chunkwise:pool=0",
    "lmcache:staging_gib=0.25",
    "lmcache:mode=layerwise,staging_gib=0.25",
    "example",
)
MISSING = "connector:NoSuchConnector"
PREFIX = 2 * CHUNK
# ExampleConnector hits up to the last whole block before the prompt's last token, and vLLM's block on a CPU has 128 tokens:
# with 40 tokens after the prefix that is the prefix, as for everybody else.
WORKLOAD = f"shared_prefix:groups=2,prefix={PREFIX},suffix=40,prompts=2,output=4"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """The one comparison of this file."""
    if find_spec("lmcache") is None:
        lacking("the package lmcache", "pip install 'ttft[lmcache]'")
    folder = tmp_path_factory.mktemp("peers")
    command = [sys.executable, "-m", "harness", "compare", "--model", SMALL_MODEL, "--dtype", "float32", "--workload", WORKLOAD]
    for arm in (OURS, LMCACHE, LAYERWISE, EXAMPLE, MISSING):
        command += ["--arm", arm]
    command += ["--pairs", "2", "--set", "kv_cache_gib=0.25", "--store", f"file://{folder / 'kv'}", "--out", str(folder / "run")]
    return folder, subprocess.run(command, capture_output=True, text=True, timeout=800)


@pytest.fixture
def run(ended: tuple[Path, "subprocess.CompletedProcess[str]"]) -> Measurement:
    return load(ended[0] / "run")


def test_the_comparison_ends_well(ended: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    process = ended[1]
    assert process.returncode == 0, process.stdout + process.stderr
    assert complaints(process.stderr) == []


def test_every_row_is_there_and_hits_what_the_workload_implies(run: Measurement) -> None:
    assert (run.meta["status"], run.void_runs, run.meta["warnings"]) == ("complete", {}, [])
    rows = run.requests
    assert rows["arm"].value_counts().to_dict() == dict.fromkeys((OURS, LMCACHE, LAYERWISE, EXAMPLE, "floor", "recompute"), 8)
    granted = rows[rows["arm"] != "recompute"]
    assert (granted["hit_tokens"] == PREFIX).all() and (granted["expected_hit_tokens"] == PREFIX).all()
    assert rows["error"].isna().all()


def test_what_all_of_them_load_gives_the_same_tokens(run: Measurement) -> None:
    assert run.meta["correctness"]["status"] == "passed"
    assert {name: peer["correctness"]["status"] for name, peer in run.meta["peers"].items()} == dict.fromkeys(
        (LMCACHE, LAYERWISE, EXAMPLE), "passed"
    )
    loading = run.requests[run.requests["arm"] != "floor"]  # in float32 recompute gives them too
    assert loading.groupby("prompt")["output_digest"].nunique().eq(1).all()
    # Without the KV they would be others, as the floor's are but where its blocks hold the right KV from the run before.
    assert run.requests.groupby("prompt")["output_digest"].nunique().gt(1).any()


def test_each_has_stored_what_it_was_given(run: Measurement) -> None:
    stored = {name: peer["stored_bytes"] for name, peer in run.meta["peers"].items()}
    heads = 2 * PREFIX * 4 * 2 * 4 * 64 * 4  # groups x tokens x layers x (key, value) x KV heads x head size x float32
    assert all(stored[name] >= heads for name in (LMCACHE, LAYERWISE)), stored
    assert stored[EXAMPLE] >= 2 * heads  # every prompt by itself


def test_the_one_that_there_is_not_is_named_with_its_reason(run: Measurement) -> None:
    (failed,) = run.meta["failed_arms"]
    assert failed["arm"] == MISSING
    assert "vLLM did not start" in failed["reason"]
    assert "Connector 'NoSuchConnector' is not registered" in failed["reason"]
    assert "\n" not in failed["reason"]
    report = (run.path / "report.md").read_text(encoding="utf-8")
    assert "connector:NoSuchConnector did not make it to the end" in report


def test_where_a_peers_time_goes_is_seen(run: Measurement) -> None:
    """Lookup, waits and forward lie within TTFT one after the other; what a peer fetches is not seen."""
    theirs = run.requests[run.requests["arm"].isin([LMCACHE, LAYERWISE, EXAMPLE])]
    parts = theirs[["queue_s", "lookup_s", "stall_s", "compute_s"]]
    assert (parts >= 0).all().all() and (theirs[["lookup_s", "stall_s", "compute_s"]] > 0).all().all()
    assert (parts.sum(axis=1) <= theirs["ttft_s"]).all()
    assert theirs[["load_s", "operations", "keys", "bytes"]].isna().all().all()
    told = run.spans.merge(theirs[["run", "prompt", "arm"]], left_on=["run", "request"], right_on=["run", "prompt"])
    counts = told.groupby(["arm", "kind"]).size().unstack().to_dict("index")
    layers = 4
    assert counts == {arm: {"lookup": 8, "wait": 8 * (1 + layers), "forward": 8} for arm in (LMCACHE, LAYERWISE, EXAMPLE)}
    # Only a mode that loads layer by layer holds up the layers: the others have everything in place before the forward.
    held = told[(told["kind"] == "wait") & (told["layer"] >= 0)].assign(s=lambda rows: rows["end_s"] - rows["start_s"])
    assert held.groupby("arm")["s"].median().idxmax() == LAYERWISE


def test_whoever_has_no_turn_uses_nothing(run: Measurement) -> None:
    idle = run.meta["idle_cpu_s"]
    assert set(idle) == {"ours", LMCACHE, LAYERWISE, EXAMPLE, MISSING}
    assert all(seconds < 1 for seconds in idle.values()), idle


def test_nothing_is_left_in_the_store(ended: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    assert [path for path in (ended[0] / "kv").rglob("*") if path.is_file()] == []
