"""What the connector itself costs: a step without loads, and the lookup of a long prefix.

    python benchmarks/step_cost.py [--repeat 2000]

Without vLLM: a stand-in for its scheduler's output, one running request, the built-in model's 24 layers.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from harness.connector.scheduler_side import SchedulerSide
from harness.connector.settings import parse_settings
from harness.connector.step import Step
from harness.connector.worker_side import WorkerSide
from harness.core.chunks import chain, root
from harness.core.spans import SpanLog
from harness.engines.paged import PagedKV
from harness.stores.base import Store, open_store

LAYERS, CHUNK, CHUNKS = 24, 256, 100
ARMS = ["layerwise:depth=4", "chunkwise:pool=8"]


def request(number: int, tokens: list[int], arm: str = ARMS[0]) -> Any:
    return SimpleNamespace(
        request_id=f"request-{number}", prompt_token_ids=tokens, kv_transfer_params={"arm": arm},
        mm_features=[], lora_request=None, prompt_embeds=None, cache_salt=None,
    )  # fmt: skip


def decode_step(running: Any) -> Any:
    """One request that decodes one token."""
    cached = SimpleNamespace(
        req_ids=[running.request_id], resumed_req_ids=set(), new_block_ids=[None], num_computed_tokens=[CHUNK * CHUNKS + 2]
    )
    return SimpleNamespace(scheduled_new_reqs=[], scheduled_cached_reqs=cached, num_scheduled_tokens={running.request_id: 1})


def timed(work: Callable[[int], None], repeat: int) -> list[float]:
    seconds = []
    for number in range(repeat):
        begin = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - begin)
    return seconds


def show(what: str, seconds: list[float], limit_us: float) -> None:
    ordered = sorted(seconds)
    median, late = statistics.median(ordered), ordered[int(0.95 * len(ordered))]
    print(f"{what}: median {median * 1e6:.0f} us, 95% within {late * 1e6:.0f} us; wanted: under {limit_us:.0f} us")


def step_without_loads(scheduler: SchedulerSide, worker: WorkerSide, repeat: int) -> list[float]:
    running = request(-1, list(range(CHUNK * CHUNKS + 1)))
    scheduler.matched_tokens(running, 0)
    output = decode_step(running)

    def one(_: int) -> None:
        step: Step = scheduler.plan(output)
        worker.start_load(step)
        for layer in range(LAYERS):
            worker.wait_layer(layer)
        if not step.idle:
            worker.finish(step)

    return timed(one, repeat)


def lookups(scheduler: SchedulerSide, store: Store, repeat: int) -> list[float]:
    tokens = list(range(CHUNK * CHUNKS + 1))
    for key in chain(root({"benchmark": 1, "namespace": ""}), tokens, CHUNK):
        store.write(key, [b"x"])
    requests = [request(number, tokens) for number in range(repeat)]

    def one(number: int) -> None:
        if scheduler.matched_tokens(requests[number], 0) != CHUNK * CHUNKS:
            raise SystemExit("the prefix was not found")

    return timed(one, repeat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ttft-step-") as folder:
        url = f"file://{folder}"
        settings, arms = parse_settings({"store": url, "arms": ARMS, "chunk_tokens": CHUNK})
        store = open_store(url)
        scheduler = SchedulerSide(settings, arms, store, {"benchmark": 1}, 2, 1)
        cache = PagedKV([torch.zeros(8, 8, 128, 128, dtype=torch.bfloat16) for _ in range(LAYERS)], 2, 128)
        worker = WorkerSide(arms, store, cache, SpanLog("", "worker-0"), 0, 1)
        show("step without loads", step_without_loads(scheduler, worker, options.repeat), 100)
        show(f"lookup of {CHUNKS} chunks on the file store", lookups(scheduler, store, min(options.repeat, 500)), 2000)
        worker.close()


if __name__ == "__main__":
    main()
