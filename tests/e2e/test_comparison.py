"""The command itself, in processes of its own: a whole comparison, an interruption taken up again, the natural state."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import SMALL_MODEL, complaints

from harness.results import load

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

WORKLOAD = "shared_prefix:groups=2,prefix=512,suffix=40,prompts=1"


def command(folder: Path, *more: str) -> list[str]:
    options = ["--model", SMALL_MODEL, "--dtype", "float32", "--workload", WORKLOAD, "--out", str(folder / "run")]
    options += ["--set", "kv_cache_gib=0.25", "--store", f"shaped+file://{folder / 'store'}?latency_ms=1&stream_mb_s=500"]
    return [sys.executable, "-m", "harness", "compare", *options, *more]


def chunks_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "store").rglob("*") if path.is_file() and path.suffix == ".kv"]


@pytest.fixture(scope="module")
def primed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    folder = tmp_path_factory.mktemp("compare")
    ended = subprocess.run(command(folder, "--pairs", "2"), capture_output=True, text=True, timeout=600)
    return folder, ended


def test_a_comparison_ends_well_and_prints_its_table(primed: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    _, ended = primed
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert complaints(ended.stderr) == []
    for arm in ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "floor", "recompute"):
        assert arm in ended.stdout


def test_every_row_is_there_and_proven(primed: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    run = load(primed[0] / "run")
    rows = run.requests
    assert run.meta["status"] == "complete"
    assert run.meta["correctness"]["status"] == "passed"
    assert run.void_runs == {}
    assert len(rows) == 2 * 5 * 2  # rounds x arms x prompts; recompute runs in both rounds
    loading = rows[rows["arm"].str.contains("wise")]
    assert (loading["hit_tokens"] == 512).all() and (loading["expected_hit_tokens"] == 512).all()
    assert loading["kv_digest"].notna().all()
    for _, same_prompt in loading.groupby("prompt"):
        assert same_prompt["output_digest"].nunique() == 1
        assert same_prompt["kv_digest"].nunique() == 1
    assert (rows[rows["arm"] == "recompute"]["hit_tokens"] == 0).all()
    assert rows[rows["arm"] == "floor"]["bytes"].fillna(0).eq(0).all()


def test_the_parts_of_a_row_add_up_to_its_ttft(primed: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    rows = load(primed[0] / "run").requests
    parts = rows[["queue_s", "lookup_s", "stall_s", "compute_s"]].fillna(0).sum(axis=1)
    assert (parts <= rows["ttft_s"]).all()
    assert (rows["compute_s"] > 0).all()
    assert (rows["server_ttft_s"] <= rows["ttft_s"] * 1.001).all()
    chunkwise = rows[rows["arm"] == "chunkwise:pool=0"]
    # Two chunks one after the other, each at least 1 ms and its bytes at 500 MB/s: the shaped store's promise.
    assert (chunkwise["load_s"] >= 2 * 0.001 + chunkwise["bytes"] / 500e6).all()


def test_the_store_is_clean_afterwards(primed: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    assert chunks_in(primed[0]) == []


def test_the_report_is_written(primed: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder = primed[0] / "run"
    assert (folder / "report.md").stat().st_size > 0
    assert (folder / "summary.csv").stat().st_size > 0
    assert len(list((folder / "pictures").glob("*.png"))) >= 4


def wait_for_rows(process: "subprocess.Popen[str]", folder: Path, rows: int) -> None:
    """Until more than ``rows`` lines of results are on disk."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "requests.csv").exists() and len((folder / "requests.csv").read_text().splitlines()) > rows:
            break
        time.sleep(0.05)


def test_being_ended_from_outside_is_like_ctrl_c(tmp_path: Path) -> None:
    """Also where SIGINT is ignored, as a script's shell has it for what it starts with ``&``."""
    more = command(tmp_path, "--pairs", "50", "--no-bounds", "--set", "correctness_prompts=0")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for_rows(process, tmp_path / "run", 3)
    process.terminate()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, output + errors
    assert "Traceback" not in output + errors
    assert load(tmp_path / "run").meta["status"] == "partial"
    assert chunks_in(tmp_path) == []


def owned_by(owner: int) -> set[int]:
    """Processes of vLLM that work for a measurement."""
    wanted = f"TTFT_OWNER={owner}".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0") and int(path.parent.name) != owner:
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_comparison_that_is_killed_without_a_word_leaves_no_vllm(tmp_path: Path) -> None:
    more = command(tmp_path, "--pairs", "50", "--no-bounds", "--set", "correctness_prompts=0")
    process = subprocess.Popen(more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_rows(process, tmp_path / "run", 3)
    vllm = owned_by(process.pid)
    process.kill()
    process.communicate(timeout=60)
    assert vllm
    deadline = time.monotonic() + 60
    while owned_by(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert owned_by(process.pid) == set()


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(tmp_path, "--pairs", "4", "--no-bounds"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_rows(process, folder, 6)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, output + errors
    assert "Traceback" not in output + errors
    assert "--resume" in output
    before = load(folder)
    assert before.meta["status"] == "partial"
    assert chunks_in(tmp_path) == []

    ended = subprocess.run(
        [sys.executable, "-m", "harness", "compare", "--resume", str(folder)], capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    after = load(folder)
    assert after.meta["status"] == "complete"
    assert after.requests.iloc[: len(before.requests)].equals(before.requests)
    counted = after.counted
    assert len(counted) == 4 * 3 * 2
    assert counted.groupby(["round", "arm"]).size().eq(2).all()
    assert chunks_in(tmp_path) == []


def test_natural_runs_hit_what_earlier_requests_left_a_layer_an_object(tmp_path: Path) -> None:
    workload = "shared_prefix:groups=1,prefix=512,suffix=40,prompts=2"
    more = ["--pairs", "1", "--cache-state", "natural", "--workload", workload, "--set", "layout=layer"]
    ended = subprocess.run(command(tmp_path, *more), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = load(tmp_path / "run").requests
    loading = rows[rows["arm"] != "recompute"].sort_values("position")
    assert set(loading[loading["position"] == 0]["hit_tokens"]) == {0}
    assert set(loading[loading["position"] == 1]["hit_tokens"]) == {512}
    layers = load(tmp_path / "run").meta["geometry"]["layers"]
    assert set(loading[loading["position"] == 1]["keys"]) == {2 * layers}
    assert chunks_in(tmp_path) == []
