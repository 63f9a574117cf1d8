"""Paged caches made by vLLM's own functions, in every layout that it knows."""

from dataclasses import dataclass

import numpy as np
import torch
from vllm.v1.kv_cache_interface import (
    AttentionSpec,
    FullAttentionSpec,
    KVCacheTensor,
    MLAAttentionSpec,
    compute_layout_strides,
    create_kv_cache_views,
)
from vllm.v1.kv_cache_layout import KVCacheLayout

from harness.engines.device import HostDevice
from harness.engines.paged import PagedKV


@dataclass(frozen=True)
class Cache:
    """What vLLM would make: ``kernel_block`` tokens in the kernel's blocks, 0 for those of the manager's."""

    layout: str
    kernel_block: int = 0
    heads: int = 4
    mla: bool = False
    dtype: torch.dtype = torch.bfloat16
    layers: int = 6
    blocks: int = 32
    block_tokens: int = 16

    @property
    def name(self) -> str:
        parts = [self.layout, "mla" if self.mla else f"{self.heads} heads", str(self.dtype).removeprefix("torch.")]
        return ", ".join([*parts, *([f"kernel block {self.kernel_block}"] if self.kernel_block else [])])

    def spec(self) -> AttentionSpec:
        if self.mla:
            return MLAAttentionSpec(block_size=self.block_tokens, num_kv_heads=1, head_size=36, dtype=self.dtype)
        return FullAttentionSpec(block_size=self.block_tokens, num_kv_heads=self.heads, head_size=8, dtype=self.dtype)

    def views(self) -> list[torch.Tensor]:
        """Random bytes, the same each time."""
        spec, layout = self.spec(), KVCacheLayout[self.layout]
        size = spec.page_size_bytes * self.layers * self.blocks
        raw = torch.frombuffer(bytearray(np.random.default_rng(0).bytes(size)), dtype=torch.int8)
        strides = compute_layout_strides(spec, self.blocks, self.layers, layout)
        names = [f"layer {number}" for number in range(self.layers)]
        tensor = KVCacheTensor(size=size, layers=names, layer_stride=strides[0], block_stride=strides[1])
        views: list[torch.Tensor] = create_kv_cache_views(raw, spec, self.blocks, layout, tensor, self.kernel_block or None)
        return views

    def build(self, port: HostDevice | None = None) -> PagedKV:
        return PagedKV(self.views(), 2, self.block_tokens, self.blocks, port)


DENSE = [
    *(Cache(layout) for layout in ("LBNHC", "LBHNC", "BLNHC", "BLHNC")),
    *(Cache(layout, kernel_block=4) for layout in ("LBNHC", "LBHNC")),
    Cache("LBNHC", mla=True),
    Cache("BLHNC", mla=True, kernel_block=0),
    Cache("LBNHC", mla=True, kernel_block=8),
    Cache("LBNHC", dtype=torch.float8_e4m3fn),
    Cache("LBHNC", dtype=torch.uint8, kernel_block=8, heads=3),
]
"""Caches whose blocks lie in one piece."""

IN_PIECES = [Cache("LHBNC"), Cache("BHLNC")]
