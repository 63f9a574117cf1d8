"""``ttft serve`` in a process of its own, and ``ttft compare --target`` against it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import SMALL_MODEL, complaints
from servers import free_port

from harness.results import Measurement, load
from harness.results.side_tables import load_metrics

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WORKLOAD = "shared_prefix:groups=2,prefix=512,suffix=40,prompts=1"
KEY = "e2e-key"


@dataclass
class Serving:
    """A running ``ttft serve``."""

    process: "subprocess.Popen[str]"
    url: str
    folder: Path

    @property
    def options(self) -> list[str]:
        """What server and client have in common."""
        options = ["--model", SMALL_MODEL, "--dtype", "float32", "--workload", WORKLOAD, "--set", "kv_cache_gib=0.25"]
        return [*options, "--store", f"file://{self.folder / 'store'}"]

    def chunks(self) -> list[Path]:
        return [path for path in (self.folder / "store").rglob("*.kv") if path.is_file()]

    def compare(self, out: str, *more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "harness", "compare", *self.options, "--target", self.url]
        command += ["--out", str(self.folder / out)]
        told = {**os.environ, "TTFT_API_KEY": KEY}
        return subprocess.run([*command, *more], capture_output=True, text=True, timeout=600, env=told)


def members(group: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("target")
    port = free_port()
    serving = Serving(None, f"http://127.0.0.1:{port}", folder)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "harness", "serve", *serving.options, "--port", str(port), "--out", str(folder / "serve")]
    told = {**os.environ, "TTFT_API_KEY": KEY}
    serving.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=told)
    assert serving.process.stdout is not None
    lines = [serving.process.stdout.readline() for _ in range(3)]
    if "Serving" not in lines[1]:
        pytest.fail(f"ttft serve did not start: {lines}\n{(folder / 'serve' / 'server.log').read_text()[-3000:]}")
    try:
        yield serving
    finally:
        if serving.process.poll() is None:
            serving.process.terminate()
        serving.process.communicate(timeout=90)


@pytest.fixture(scope="module")
def measured(server: Serving) -> Measurement:
    ended = server.compare("run", "--pairs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert complaints(ended.stderr) == []
    return load(server.folder / "run")


def test_a_comparison_at_a_server_is_proven_like_one_in_process(measured: Measurement, server: Serving) -> None:
    assert (measured.meta["status"], measured.void_runs) == ("complete", {})
    assert measured.meta["correctness"]["status"] == "passed"
    rows = measured.requests
    assert len(rows) == 2 * 5 * 2 and rows["error"].isna().all()
    loading = rows[rows["arm"].str.contains("wise")]
    assert (loading["hit_tokens"] == 512).all() and loading["kv_digest"].notna().all()
    assert loading.groupby("prompt")["output_digest"].nunique().eq(1).all()
    assert (rows[rows["arm"] == "recompute"]["hit_tokens"] == 0).all()
    assert server.chunks() == []


def test_the_parts_that_the_server_and_its_trace_tell_fit_into_the_client_s_ttft(measured: Measurement) -> None:
    rows = measured.requests
    assert rows[["queue_s", "compute_s"]].notna().all(axis=None)
    parts = rows[["queue_s", "lookup_s", "stall_s", "compute_s"]].fillna(0).sum(axis=1)
    assert (parts <= rows["ttft_s"]).all()
    assert measured.meta["server"]["machine"] == measured.meta["machine"]


def test_vllm_counts_the_hits_that_the_rows_have(measured: Measurement) -> None:
    frame = load_metrics(measured.path)
    hits = frame[frame["name"] == "vllm:external_prefix_cache_hits_total"]["value"]
    # Priming, the correctness pass and the warm-up hit as well, so the rows are the least.
    assert hits.iloc[-1] - hits.iloc[0] >= measured.requests["hit_tokens"].sum()
    assert (frame["name"] == "vllm:request_prefill_time_seconds_sum").sum() >= 2


def test_a_client_that_cannot_read_the_trace_still_proves_its_hits(server: Serving, measured: Measurement) -> None:
    served = server.folder / "serve" / "served.json"
    told = served.read_text()
    # A client elsewhere finds no folder of that name; here the server tells another one.
    served.write_text(json.dumps({**json.loads(told), "folder": "/nowhere"}))
    try:
        ended = server.compare("elsewhere", "--pairs", "1", "--no-bounds")
    finally:
        served.write_text(told)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = load(server.folder / "elsewhere").requests
    assert (rows["hit_tokens"] == 512).all() and rows["stall_s"].isna().all() and rows["queue_s"].notna().all()


def test_a_wrong_key_is_one_sentence(server: Serving) -> None:
    command = [sys.executable, "-m", "harness", "compare", *server.options, "--target", server.url]
    told = {**os.environ, "TTFT_API_KEY": "wrong"}
    ended = subprocess.run(
        [*command, "--out", str(server.folder / "refused")], capture_output=True, text=True, timeout=100, env=told
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: the server at {server.url} refuses the key (it answers 401)")
    assert "wrong" not in ended.stdout + ended.stderr


def test_sigterm_ends_the_server_and_all_its_processes(server: Serving, measured: Measurement) -> None:
    [vllm] = children(server.process.pid)
    assert len(members(vllm)) >= 2
    server.process.send_signal(signal.SIGTERM)
    out, errors = server.process.communicate(timeout=90)
    assert (server.process.returncode, errors) == (0, "")
    assert "Stopped" in out
    assert members(vllm) == []
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{server.url}/health", timeout=5)


def test_a_server_that_does_not_start_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "serve", "--model", SMALL_MODEL, "--dtype", "float32", "--workload", WORKLOAD]
    command += ["--store", f"file://{tmp_path / 'store'}", "--set", "vllm={no_such_flag=1}", "--port", str(free_port())]
    begin = time.monotonic()
    ended = subprocess.run([*command, "--out", str(tmp_path / "serve")], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stderr.startswith("error: vLLM did not start with model builtin:")
    assert "unrecognized arguments: --no-such-flag" in ended.stderr and str(tmp_path / "serve" / "server.log") in ended.stderr
    assert ended.stderr.count("\n") == 1, time.monotonic() - begin
