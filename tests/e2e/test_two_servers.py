"""Two ``ttft serve`` over one Redis: what one of them saved, the other one hits."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis_running import redis_server
from running import CHUNK, SMALL_MODEL, tokens
from servers import free_port

from harness.gate import judge_run
from harness.results import load
from harness.stores import open_store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ARMS = ["layerwise:depth=2", "chunkwise:pool=2"]
CHUNKS = 2


@dataclass
class Serving:
    """A running ``ttft serve``."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path

    def until_ready(self) -> None:
        """Wait for its third line, which it prints once vLLM answers."""
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(3)]
        if "Serving" not in lines[1]:
            pytest.fail(f"ttft serve did not start: {lines}\n{self.log.read_text()[-3000:] if self.log.exists() else ''}")

    def complete(self, arm: str, prompt: list[int]) -> tuple[int, list[int]]:
        """Cached tokens and the tokens of the answer."""
        with urllib.request.urlopen(f"{self.url}/v1/models", timeout=10) as answer:
            model = json.load(answer)["data"][0]["id"]
        body = {"model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        body |= {"return_token_ids": True, "detokenize": False, "kv_transfer_params": {"arm": arm}}
        request = urllib.request.Request(
            f"{self.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        return (found["usage"]["prompt_tokens_details"] or {}).get("cached_tokens") or 0, found["choices"][0]["token_ids"]


@contextmanager
def serving(store: str, folder: Path) -> Iterator[Serving]:
    """``ttft serve`` from its start on; ended at the end, where it still runs."""
    port = free_port()
    command = [sys.executable, "-m", "harness", "serve", "--model", SMALL_MODEL, "--dtype", "float32", "--store", store]
    command += ["--workload", f"shared_prefix:prefix={CHUNKS * CHUNK},suffix=64", "--set", "kv_cache_gib=0.25"]
    for arm in ARMS:
        command += ["--arm", arm]
    command += ["--port", str(port), "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Serving(process, f"http://127.0.0.1:{port}", folder / "server.log")
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=90)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with redis_server() as server:
        yield f"{server.url}?prefix=two-servers:"


@pytest.fixture(scope="module")
def servers(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Serving]]:
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        first, second = (stack.enter_context(serving(store, folder / name)) for name in ("first", "second"))
        first.until_ready()
        second.until_ready()
        yield first, second


@pytest.mark.parametrize("saver", [0, 1], ids=["the first saves", "the second saves"])
@pytest.mark.parametrize("arm", ARMS)
def test_what_one_server_saved_the_other_one_hits(servers: tuple[Serving, Serving], store: str, arm: str, saver: int) -> None:
    prompt = tokens(f"two servers {arm} {saver}", CHUNKS * CHUNK + 40)
    with open_store(store) as opened:
        before = set(opened.keys())
        cached, computed = servers[saver].complete(arm, prompt)
        assert (cached, len(set(opened.keys()) - before)) == (0, CHUNKS)
        assert servers[1 - saver].complete(arm, prompt) == (CHUNKS * CHUNK, computed)
        assert len(set(opened.keys()) - before) == CHUNKS, "what is there is not saved again"


def test_both_are_arms_of_one_measurement_as_servers_of_anybody(servers: tuple[Serving, Serving], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "compare", "--model", SMALL_MODEL, "--pairs", "4", "--out", str(tmp_path / "run")]
    command += ["--workload", f"shared_prefix:groups=2,prefix={CHUNKS * CHUNK},suffix=40,prompts=1"]
    for name, server in zip("ab", servers, strict=True):
        command += ["--arm", f"target:{server.url},name={name}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    run = load(tmp_path / "run")
    assert (run.meta["status"], run.meta["correctness"]["status"]) == ("complete", "passed")
    assert [told["proof"] for told in run.meta["targets"].values()] == ["cached tokens"] * 2
    assert (run.requests["hit_tokens"] == CHUNKS * CHUNK).all() and len(run.requests) == 2 * 4 * 2
    [metric] = judge_run(run, "b", "a", {"p50": 0.5}).metrics
    assert 0 < metric.low <= metric.ratio <= metric.high < float("inf")


def test_one_server_goes_and_the_other_still_hits_what_it_saved(servers: tuple[Serving, Serving], store: str) -> None:
    first, second = servers
    prompt = tokens("two servers, one left", CHUNKS * CHUNK + 40)
    _, computed = first.complete(ARMS[0], prompt)
    assert ended(first) == (0, "")
    assert second.complete(ARMS[0], prompt) == (CHUNKS * CHUNK, computed)
    assert ended(second) == (0, "")
    with open_store(store) as opened:
        assert len(set(opened.keys())) >= CHUNKS, "what was saved stays in the store"


def ended(server: Serving) -> tuple[int, str]:
    """Stop it as a user would; its exit status and what it had to say about it."""
    server.process.send_signal(signal.SIGTERM)
    _, errors = server.process.communicate(timeout=90)
    return server.process.returncode, errors
