"""Stands in for vLLM and really keeps KV: the connector's two halves over small tensors, and a model made of hashes.

The KV of a block is a hash of the block before it and of its own tokens, and the next token is a hash of all
KV before it. So wrong KV shows in the tokens, as it does with a real model.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_engine import Lab

from harness.connector.scheduler_side import SchedulerSide
from harness.connector.settings import check_chunk, parse_settings
from harness.connector.step import Step
from harness.connector.worker_side import WorkerSide
from harness.core.spans import SpanLog
from harness.engines.paged import PagedKV
from harness.experiment import session
from harness.replay.in_process import EngineSettings
from harness.replay.outcome import Outcome
from harness.stores.base import open_store
from harness.stores.layered import in_layout

BLOCK, BLOCKS, LAYERS, WIDTH = 8, 32, 3, 64


@dataclass
class KeepingVllm:
    """What stands in the place of ``InProcessEngine``; ``before`` is called with each request's parameters."""

    before: Callable[[Mapping[str, Any]], None] = lambda params: None
    engines: list["KeepingEngine"] = field(default_factory=list)

    def start(self, settings: EngineSettings, log: Path) -> "KeepingEngine":
        self.engines.append(KeepingEngine(self, settings))
        return self.engines[-1]


class KeepingEngine:
    """Serves requests one step at a time, as vLLM's scheduler, worker and model would together."""

    def __init__(self, vllm: KeepingVllm, settings: EngineSettings) -> None:
        self._vllm = vllm
        self._fails = settings.load_failure_policy == "fail"
        connector, arms = parse_settings(settings.connector)
        layers = [torch.zeros(BLOCKS, BLOCK, WIDTH // BLOCK, dtype=torch.uint8) for _ in range(LAYERS)]
        self._cache = PagedKV(layers, check_chunk(connector.chunk_tokens, BLOCK), BLOCK)
        per = self._cache.geometry.chunk_blocks
        identity: dict[str, object] = {"model": settings.model, "dtype": settings.dtype, "world": 1}
        if connector.layout != "chunk":
            identity["layout"] = connector.layout
        log = SpanLog(connector.span_log, "worker-0")
        geometry = asdict(self._cache.geometry)
        start = {
            "kind": "start",
            "geometry": geometry,
            "identity": identity,
            "blocks": BLOCKS,
            "direct": True,
            "torch_threads": 1,
        }
        log.write(start)
        self._scheduler = SchedulerSide(connector, arms, open_store(connector.store), identity, per, 1)
        self._worker = WorkerSide(arms, in_layout(open_store(connector.store), start), self._cache, log, 0, 1)
        self._free = list(range(BLOCKS))

    async def generate(
        self,
        request_id: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        self._vllm.before(params)
        sent = time.perf_counter()
        plain: dict[str, Any] = {"mm_features": [], "lora_request": None, "prompt_embeds": None, "cache_salt": None}
        request: Any = SimpleNamespace(
            request_id=request_id, prompt_token_ids=list(tokens), kv_transfer_params=dict(params), **plain
        )
        count = -(-(len(tokens) + output_tokens) // BLOCK)
        blocks, self._free = self._free[:count], self._free[count:]
        granted = self._scheduler.matched_tokens(request, 0)
        self._scheduler.allocated(request, granted)
        try:
            return await self._steps(request_id, list(tokens), output_tokens, blocks, granted, sent)
        finally:
            self._scheduler.finished(request)
            self._free.extend(blocks)

    async def _steps(self, name: str, tokens: list[int], wanted: int, blocks: list[int], granted: int, sent: float) -> Outcome:
        computed, output, first, new = granted, list[int](), sent, True
        while len(output) < wanted:
            step = self._scheduler.plan(_scheduled(name, blocks, computed, len(tokens) - computed, new))
            new = False
            if invalid := self._forward(step, tokens, blocks, computed):
                self._scheduler.load_errors(invalid)
                if self._fails:
                    return Outcome(sent, cached_tokens=granted, error="the KV could not be loaded")
                computed = min(blocks.index(block) for block in invalid) * BLOCK
                continue
            computed = len(tokens)
            output.append(self._next_token(blocks[: -(-computed // BLOCK)]))
            tokens.append(output[-1])
            first = time.perf_counter() if len(output) == 1 else first
            await asyncio.sleep(0)
        return Outcome(sent, first, time.perf_counter(), tuple(output), granted, first - sent, 0.0, first - sent)

    def _forward(self, step: Step, tokens: Sequence[int], blocks: Sequence[int], computed: int) -> set[int]:
        self._worker.start_load(step)
        for layer in range(LAYERS):
            self._worker.wait_layer(layer)
            for i in range(computed // BLOCK, -(-len(tokens) // BLOCK)):
                before = self._cache.gather(layer, [blocks[i - 1]]) if i else b""
                text = before + repr((layer, list(tokens[i * BLOCK : (i + 1) * BLOCK]))).encode()
                kv = torch.frombuffer(bytearray(hashlib.blake2b(text, digest_size=WIDTH).digest()), dtype=torch.uint8)
                self._cache.layers[layer][blocks[i]] = kv.view(BLOCK, -1)
        self._worker.finish(step)
        return self._worker.take_invalid()

    def _next_token(self, blocks: Sequence[int]) -> int:
        kv = b"".join(self._cache.gather(layer, blocks) for layer in range(LAYERS))
        return hashlib.blake2b(kv, digest_size=1).digest()[0]

    def close(self) -> None:
        self._worker.close()


def _scheduled(name: str, blocks: Sequence[int], computed: int, count: int, new: bool) -> Any:
    """The scheduler's output for one request that holds all of its blocks from the start."""
    first = SimpleNamespace(req_id=name, block_ids=(list(blocks),), num_computed_tokens=computed)
    cached = SimpleNamespace(
        req_ids=[] if new else [name],
        resumed_req_ids=set(),
        new_block_ids=[] if new else [None],
        num_computed_tokens=[] if new else [computed],
    )
    return SimpleNamespace(
        scheduled_new_reqs=[first] if new else [], scheduled_cached_reqs=cached, num_scheduled_tokens={name: count}
    )


@pytest.fixture
def keeping() -> KeepingVllm:
    return KeepingVllm()


@pytest.fixture
def keeping_lab(lab: Lab, keeping: KeepingVllm, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab, over an engine that keeps KV."""
    monkeypatch.setattr(session, "InProcessEngine", keeping)
    return lab
