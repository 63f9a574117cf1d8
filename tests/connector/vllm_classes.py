"""The class that vLLM sees, made between vLLM's own types but without an engine."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; make test installs it")

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

from harness.connector.vllm_connector import TTFTConnector

BLOCKS, BLOCK, LAYERS = 16, 8, 2
ATTENTION: dict[str, Any] = {"block_size": BLOCK, "num_kv_heads": 2, "head_size": 16, "dtype": torch.float32}


def caches_of(spec: Any, blocks: int = BLOCKS) -> dict[str, torch.Tensor]:
    width = spec.page_size_bytes // 4 // (2 * BLOCK)
    return {f"layer.{i}": torch.zeros(blocks, 2, BLOCK, width) for i in range(LAYERS)}


def cache_config(spec: Any, blocks: int = BLOCKS) -> KVCacheConfig:
    groups = [KVCacheGroupSpec([f"layer.{i}" for i in range(LAYERS)], spec)]
    config = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=groups)
    if hasattr(config, "kv_cache_layout"):
        config.kv_cache_layout = "LBHNC"
    return config


def vllm_config(folder: Path, policy: str = "recompute", device: str = "cpu") -> Any:
    arms = ["chunkwise:pool=0", "deferred"]
    extra = {"store": f"file://{folder / 'kv'}", "arms": arms, "chunk_tokens": 2 * BLOCK, "span_log": str(folder)}
    transfer = SimpleNamespace(kv_connector_extra_config=extra, kv_load_failure_policy=policy, kv_connector="TTFTConnector")
    return SimpleNamespace(
        kv_transfer_config=transfer,
        parallel_config=SimpleNamespace(
            pipeline_parallel_size=1, prefill_context_parallel_size=1, decode_context_parallel_size=1, world_size=1, rank=0
        ),
        model_config=SimpleNamespace(model="a-model", revision=None, dtype=torch.float32, enforce_eager=True),
        cache_config=SimpleNamespace(cache_dtype="auto", gpu_memory_utilization=0.5),
        device_config=SimpleNamespace(device_type=device),
        scheduler_config=SimpleNamespace(async_scheduling=False, max_num_batched_tokens=512),
        compilation_config=SimpleNamespace(cudagraph_mode=None, static_forward_context={}),
        attention_config=SimpleNamespace(backend=None),
        use_v2_model_runner=False,
        max_concurrent_batches=1,
    )


def make(folder: Path, role: str, spec: Any = None, **more: Any) -> TTFTConnector:
    spec = spec or FullAttentionSpec(**ATTENTION)
    return TTFTConnector(vllm_config(folder, **more), KVConnectorRole[role], cache_config(spec))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[TTFTConnector]:
    one = make(tmp_path, "WORKER")
    one.register_kv_caches(caches_of(FullAttentionSpec(**ATTENTION)))
    yield one
    one.shutdown()
