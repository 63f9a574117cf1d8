"""``ttft compare --target`` over a stand-in server: what is proven there, what only its span log can tell, what is refused."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_engine import CHUNK, CHUNKWISE, LAYERWISE, FakeEngine, Lab, Served, lab
from stub_vllm import StubVllm, serving

from harness.core.errors import RunError, SetupError, UsageError
from harness.core.machine import boot_id
from harness.experiment.session import engine_settings
from harness.replay.server.about import About
from harness.results import Measurement
from harness.results.side_tables import load_metrics

__all__ = ["lab"]


@contextmanager
def served(lab: Lab, *, logged: bool = True, stub: StubVllm | None = None, **changes: Any) -> Iterator[StubVllm]:
    """A stand-in server with the fake engine behind it, as ``ttft serve`` would have started it."""
    home = lab.home / "server"
    setting = lab.setting(**changes)
    settings = engine_settings(setting, setting.dtype, home / "span_log", save=True)
    (home / "span_log").mkdir(parents=True)
    stub = stub or StubVllm()
    stub.engine = FakeEngine(lab.vllm, settings)
    start = json.loads((home / "span_log" / "worker-0.jsonl").read_text().splitlines()[0])
    about = About(
        store=lab.store_url,
        arms=setting.served_arms,
        chunk_tokens=CHUNK,
        max_model_len=4096,
        folder=str(home) if logged else "/nowhere",
        boot=boot_id(),
        start=start,
    )
    about.write(home)
    stub.about = stub.about or about.model_dump()
    with serving(stub):
        yield stub


def measure(lab: Lab, stub: StubVllm, **changes: Any) -> Measurement:
    return lab.measure(target=stub.url, **{"pairs": 2, **changes})


def test_a_replay_through_the_api_proves_and_tells_what_one_in_process_does(lab: Lab) -> None:
    with served(lab) as stub:
        run = measure(lab, stub)
    assert (run.meta["status"], run.meta["correctness"]["status"], run.void_runs) == ("complete", "passed", {})
    loading = run.requests[run.requests["arm"].isin([CHUNKWISE, LAYERWISE])]
    assert (loading["hit_tokens"] == 32).all() and loading["kv_digest"].notna().all()
    assert loading[["lookup_s", "load_s", "stall_s", "compute_s", "queue_s", "operations"]].notna().all(axis=None)
    assert run.requests["ttft_s"].notna().all() and run.requests["error"].isna().all()
    assert run.meta["server"]["url"] == stub.url and run.meta["server"]["vllm"] == "0.32.0"
    assert len(run.spans) > 0
    assert lab.left() == set()


def test_what_others_have_in_the_same_store_stays(lab: Lab) -> None:
    others = tuple(range(40))
    with served(lab) as stub:
        params = {"arm": CHUNKWISE, "max_hit_tokens": 99, "save": True, "namespace": "theirs", "label": "0/0"}
        asyncio.run(stub.engine.generate("other", others, 2, params))
        before = lab.left()
        assert len(before) == 2
        asyncio.run(stub.engine.generate("other", others, 2, params))
        run = measure(lab, stub)
    assert (run.meta["status"], run.void_runs) == ("complete", {})
    assert lab.left() == before


def test_without_the_span_log_hits_are_proven_and_what_only_it_tells_stays_empty(lab: Lab) -> None:
    with served(lab, logged=False) as stub:
        run = measure(lab, stub)
    assert (run.meta["status"], run.void_runs) == ("complete", {})
    loading = run.requests[run.requests["arm"].isin([CHUNKWISE, LAYERWISE])]
    assert (loading["hit_tokens"] == 32).all()
    empty = ["lookup_s", "load_s", "stall_s", "compute_s", "operations", "bytes", "kv_digest"]
    assert run.requests[empty].isna().all(axis=None)
    assert set(run.requests["page_cache"]) == {"unknown"}
    assert any("span log cannot be read" in note for note in run.meta["data"]["notes"])
    assert any("chunks stay in the server's store" in note for note in run.meta["data"]["notes"])


def test_a_load_that_fails_at_a_server_whose_span_log_is_not_here_voids_its_run(lab: Lab) -> None:
    stub = StubVllm()  # vLLM computes what was not loaded, and goes on to call it a hit: only the counter shows it

    def fails(one: Served) -> None:
        if one.label.endswith("/3/1"):
            stub.failed_blocks += 8

    lab.vllm.tamper = fails
    with served(lab, logged=False, stub=stub):
        run = measure(lab, stub, bounds=False)
    assert (run.requests["hit_tokens"] == 32).all()
    assert run.meta["status"] == "void"
    assert list(run.void_runs) == [3]
    assert run.void_runs[3].startswith("8 blocks could not be loaded at the server")


def test_a_server_whose_tokens_all_come_at_once_gives_no_ttft(lab: Lab) -> None:
    stub = StubVllm(fault=lambda body: "one event" if body["kv_transfer_params"].get("label", "").endswith(("/0", "/1")) else "")
    with served(lab, stub=stub):
        run = measure(lab, stub, bounds=False)
    assert set(run.void_runs) == set(run.requests["run"])
    assert "tokens are held back between server and client" in run.void_runs[0]


def test_a_server_that_does_not_count_failed_loads_is_refused_unless_it_fails_them(lab: Lab) -> None:
    stub = StubVllm(answers={"/metrics": (200, "vllm:num_requests_running 0.0\n")})
    said = r"does not say which loads fail.*--span-log FOLDER"
    with served(lab, logged=False, stub=stub), pytest.raises(SetupError, match=said):
        measure(lab, stub)


def test_a_server_that_fails_requests_whose_load_fails_needs_no_counter(lab: Lab) -> None:
    stub = StubVllm(answers={"/metrics": (200, "vllm:num_requests_running 0.0\n")})
    with served(lab, logged=False, stub=stub):
        assert stub.about is not None
        stub.about = {**stub.about, "start": {**stub.about["start"], "engine": {"load_failure_policy": "fail"}}}
        with serving(stub):
            run = measure(lab, stub, bounds=False)
    assert run.meta["status"] == "complete"


def test_without_the_span_log_priming_that_saved_nothing_shows_in_a_second_reading(lab: Lab) -> None:
    def forgets(one: Served) -> None:
        one.saves = one.namespace.startswith("probe")

    lab.vllm.tamper = forgets
    with served(lab, logged=False) as stub, pytest.raises(RunError, match=r"priming failed: read again, it hit 0 of 16 tokens$"):
        measure(lab, stub)


def test_a_span_log_that_is_named_does_as_well_as_one_that_is_announced(lab: Lab) -> None:
    with served(lab, logged=False) as stub:
        run = measure(lab, stub, target_span_log=str(lab.home / "server" / "span_log"))
        assert run.requests[run.requests["arm"] == CHUNKWISE]["kv_digest"].notna().all()
        assert lab.left() == set()


def test_a_span_log_that_is_not_there_is_one_sentence(lab: Lab, tmp_path: Path) -> None:
    with served(lab, logged=False) as stub, pytest.raises(SetupError, match=r"there is no span log of our connector in .*empty"):
        measure(lab, stub, target_span_log=str(tmp_path / "empty"))


@pytest.mark.parametrize("fault", ["429", "cut", "not json", "stall"])
def test_a_failed_request_is_a_row_with_an_error_and_voids_its_run(lab: Lab, fault: str) -> None:
    def failing(body: dict[str, Any]) -> str:
        return fault if body["kv_transfer_params"]["label"].endswith("/1/2") else ""

    with served(lab, stub=StubVllm(fault=failing)) as stub:
        run = measure(lab, stub, target_timeout_s=0.5, bounds=False)
    assert run.meta["status"] == "void" and len(run.void_runs) == 1
    rows = run.requests[run.requests["run"] == 1]
    assert len(rows) == 4 and list(rows["error"].notna()) == [False, False, True, False]
    assert "server" in rows["error"].dropna().iloc[0]


def test_a_hit_that_the_server_does_not_give_voids_the_run(lab: Lab) -> None:
    def lie(one: Served) -> None:
        if one.label.endswith("/2/1"):
            one.cached_tokens = 16

    lab.vllm.tamper = lie
    with served(lab, logged=False) as stub:
        run = measure(lab, stub, bounds=False)
    assert run.void_runs == {2: "hit 16 tokens, but the workload implies 32"}


def test_the_server_s_metrics_are_kept_from_before_to_after(lab: Lab) -> None:
    with served(lab) as stub:
        run = measure(lab, stub, bounds=False)
    frame = load_metrics(run.path)
    hits = frame[frame["name"] == "vllm:external_prefix_cache_hits_total"]["value"]
    assert hits.iloc[-1] - hits.iloc[0] >= run.requests["hit_tokens"].sum()
    assert frame["labels"].iloc[0] == "engine=0,model_name=small"
    assert not frame["name"].str.contains("bucket|created|process").any()
    assert any("serving 1 other requests" in note for note in run.meta["data"]["notes"])  # as the stand-in always says


def test_the_key_stands_nowhere_in_the_results(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTFT_API_KEY", "s3cret")
    with served(lab, stub=StubVllm(key="s3cret")) as stub:
        run = measure(lab, stub, bounds=False)
    assert run.meta["status"] == "complete"
    for path in run.path.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), path


def test_a_server_without_metrics_is_a_warning(lab: Lab) -> None:
    with served(lab, stub=StubVllm(answers={"/metrics": (404, "none")})) as stub:
        run = measure(lab, stub, bounds=False)
    assert run.meta["status"] == "complete"
    assert run.meta["warnings"] == ["2 readings of the server's /metrics failed: the server answered 404"]


def test_a_server_that_computes_in_another_dtype_than_float32_skips_the_pass_and_says_so(lab: Lab) -> None:
    with served(lab, dtype="bfloat16") as stub:
        run = measure(lab, stub, dtype="bfloat16")
    assert run.meta["correctness"]["status"] == "skipped"
    assert any("No correctness pass" in note for note in run.meta["data"]["notes"])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"chunk_tokens": 8}, r"has chunk_tokens=16, the experiment 8; give --set chunk_tokens=16, or serve the experiment$"),
        ({"layout": "layer"}, r"has layout=chunk, the experiment layer; give --set layout=chunk"),
        ({"store": "mem://other"}, r"has store=file://.*, the experiment mem://other; give --store file://"),
        ({"dtype": "bfloat16"}, r"has dtype=float32, the experiment bfloat16; give --dtype float32"),
        ({"arms": ["layerwise:depth=9"]}, r"does not serve arm 'layerwise:depth=9', only .*; serve it too: ttft serve --arm"),
        ({"model": "builtin:layers=3,hidden=64,intermediate=64,vocabulary=256"}, r"serves other weights than builtin:.*--model"),
    ],
)
def test_a_server_of_something_else_is_refused(lab: Lab, changes: dict[str, Any], error: str) -> None:
    with served(lab) as stub, pytest.raises((SetupError, UsageError), match=error):
        measure(lab, stub, **changes)
    assert lab.left() == set()


def test_a_server_whose_context_is_too_short_is_refused(lab: Lab) -> None:
    with served(lab, stub=StubVllm(max_model_len=64)) as stub, pytest.raises(SetupError, match="takes 64 tokens, the longest"):
        measure(lab, stub)


def test_dropping_a_page_cache_that_is_elsewhere_is_refused(lab: Lab) -> None:
    with served(lab, logged=False) as stub, pytest.raises(UsageError, match="page_cache=dropped needs a server of ttft"):
        measure(lab, stub, page_cache="dropped")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"cached_tokens": None}, "does not report cached tokens; start it with --enable-prompt-tokens-details$"),
        ({"cached_tokens": 16}, "hits by vLLM's own prefix cache, .*; start it with --no-enable-prefix-caching$"),
        ({"cached_tokens": 0}, "does not have our connector with the arm 'chunkwise:pool=0': .* hit by 0 of 16 tokens"),
        ({"error": "the key is bad"}, "did not serve a first request: .*the key is bad"),
    ],
)
def test_the_probe_finds_a_server_that_cannot_be_measured(lab: Lab, change: dict[str, Any], error: str) -> None:
    def spoil(one: Served) -> None:
        for name, value in change.items():
            setattr(one, name, value)

    lab.vllm.tamper = spoil
    with served(lab) as stub, pytest.raises(SetupError, match=error):
        measure(lab, stub)
    assert len(lab.run().requests) == 0
    assert lab.left() == set()


def test_an_interrupted_replay_keeps_its_rows_and_leaves_no_chunks(lab: Lab) -> None:
    with served(lab) as stub:
        config = lab.setting().experiment
        given = {key: getattr(config, key) for key in ("chunk_tokens", "model", "dtype", "workload", "store", "arms")}
        settings = [word for key, value in given.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        command = [sys.executable, "-m", "harness", "compare", *settings, "--pairs", "5000", "--target", stub.url]
        process = subprocess.Popen(
            [*command, "--out", str(lab.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while len(stub.bodies) < 60 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (130, ""), out + errors
        assert "Resume it: ttft compare --resume" in out
        assert lab.run().meta["status"] == "partial" and len(lab.run().requests) > 0
        assert lab.left() == set()


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("127.0.0.1:8000", "is not the address of a server; write for instance http://127.0.0.1:8000"),
        ("http://", "is not the address of a server"),
        ("http://host:port", "--target has a wrong host or port"),
        ("http://me:s3cret@host", "takes http://HOST:PORT only; give a key as the environment variable TTFT_API_KEY"),
        ("http://host?api_key=s3cret", "takes http://HOST:PORT only"),
    ],
)
def test_an_address_that_will_not_do_is_refused_before_anything_starts(lab: Lab, target: str, error: str) -> None:
    with pytest.raises(UsageError, match=error) as raised:
        lab.setting(target=target)
    assert "s3cret" not in str(raised.value)


def test_an_address_may_end_as_openai_s_clients_write_it(lab: Lab) -> None:
    assert lab.setting(target="http://host:1/v1/").experiment.target == "http://host:1"
