"""What the connector itself costs: a step without loads, the lookup of a long prefix, and the Python around a layer's copies.

    python benchmarks/step_cost.py [--repeat 2000]

Without vLLM: a stand-in for its scheduler's output, one running request, the built-in model's 24 layers. The copies are
those of 32,768 tokens: 2,048 blocks of 16 tokens in 128 chunks, blocks of 128 bytes so that next to no time goes into bytes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from harness.connector.saving import Saver
from harness.connector.scheduler_side import SchedulerSide
from harness.connector.settings import parse_settings
from harness.connector.step import Save, Step
from harness.connector.worker_side import WorkerSide
from harness.core.chunks import ChunkKey, LoadRequest, chain, root
from harness.core.spans import Recorder, SpanLog
from harness.engines.device import HostDevice, Rows, Table
from harness.engines.fetch import Fetcher, Piece
from harness.engines.paged import PagedKV
from harness.stores.base import Buffer, Read, Store, StoreOptions, open_store

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


def timed(work: Callable[[int], object], repeat: int) -> list[float]:
    seconds = []
    for number in range(repeat):
        begin = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - begin)
    return seconds


def show(what: str, seconds: list[float], limit_us: float | None) -> None:
    ordered = sorted(seconds)
    median, late = statistics.median(ordered), ordered[int(0.95 * len(ordered))]
    wanted = f"; wanted: under {limit_us:.0f} us" if limit_us is not None else ""
    print(f"{what}: median {median * 1e6:.0f} us, 95% within {late * 1e6:.0f} us{wanted}")


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


class Nothing(Store):
    """A store whose reads bring nothing, at once."""

    def read(self, reads: Sequence[Read]) -> None:
        pass

    def exists(self, keys: Sequence[str]) -> int:
        return 0

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        pass

    def delete(self, keys: Iterable[str]) -> None:
        pass

    def keys(self) -> Iterator[str]:
        return iter(())


class Counted(HostDevice):
    """Makes the tables of pointers and moves nothing, as a GPU's copy call does on the host; counts allocations."""

    def __init__(self) -> None:
        self.allocations = 0

    def memory(self, size: int) -> torch.Tensor:
        self.allocations += 1
        return super().memory(size)

    def copy_in(self, rows: Rows, table: Table, stream: Any) -> None:
        rows.pointers(table)


def a_layer_of(blocks: int, per: int, repeat: int) -> None:
    """One layer of 2,048 blocks: block by block as it once was, by one copy call, and by the engine's whole call."""
    port = Counted()
    layers = [torch.zeros(2 * blocks, 128, dtype=torch.uint8) for _ in range(2)]
    plain, paged = PagedKV(layers, per, 16), PagedKV(layers, per, 16, port=port)
    ids = np.random.default_rng(0).permutation(2 * blocks)[:blocks]
    source = torch.zeros(blocks * 128, dtype=torch.uint8)
    request = LoadRequest("benchmark", tuple(ChunkKey(f"{n:032x}") for n in range(blocks // per)), tuple(ids.tolist()))
    pieces = [Piece(request, index, 1, 1) for index in range(len(request.chunks))]
    recorder = Recorder(enabled=False)
    store = Nothing(urlsplit("nothing://"), StoreOptions())
    fetchers = [
        Fetcher(store, cache, recorder, staged=True, verify=False, layers_at_once=len(pieces)) for cache in (plain, paged)
    ]
    for fetcher in fetchers:
        fetcher.begin_step([request])
        fetcher.fetch(pieces)
    allocated, rows = port.allocations, plain.rows.layers[1]

    def block_by_block(_: int) -> None:
        for position, block in enumerate(request.blocks):
            rows[block].copy_(source[position * 128 : (position + 1) * 128])

    show(f"{blocks} blocks of a layer, one copy each", timed(block_by_block, repeat), None)
    show("the same, one call on the host", timed(lambda _: plain.scatter(1, request.blocks, source), repeat), 300)
    table = Table(
        paged.ring().memory,
        np.arange(len(pieces)) * paged.ring().slot_bytes,
        np.ones(len(pieces), np.int64),
        ids.reshape(-1, per),
    )
    show("the same, pointers for one call of a device", timed(lambda _: paged.copy_in(table, None), repeat), 300)
    show(f"an engine's call for {len(pieces)} chunks, device", timed(lambda _: fetchers[1].fetch(pieces), repeat), None)
    print(f"host memory allocated in {repeat} such loads: {port.allocations - allocated} times; wanted: 0")


def a_miss(repeat: int) -> None:
    """What a step waits for the saves of 2,048 tokens: 8 chunks of 12 MiB, to files."""
    for threads in (0, 2):
        with tempfile.TemporaryDirectory(prefix="ttft-save-") as folder:
            cache = PagedKV([torch.ones(16, 8, 128, 128, dtype=torch.bfloat16) for _ in range(LAYERS)], 2, 128)
            saver = Saver(open_store(f"file://{folder}"), cache, 0, 1, lambda note: None, threads)
            seconds = []
            for number in range(repeat):
                saves = [Save("r", ChunkKey(f"{8 * number + i:032x}"), (2 * i, 2 * i + 1)) for i in range(8)]
                begin = time.perf_counter()
                saver.save(saves)
                seconds.append(time.perf_counter() - begin)
                saver.settle(60)
            saver.close()
        show(f"saves of 8 chunks of 12 MiB, save_threads={threads}", seconds, 1000 if threads else None)


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
    a_layer_of(2048, 16, min(options.repeat, 100))
    a_miss(min(options.repeat, 7))


if __name__ == "__main__":
    main()
