"""LMCache over vLLM's CPU build: the connector for CPU memory that LMCache lacks.

vLLM loads ``LMCacheOnCPU`` by ``kv_connector_module_path``. Written from LMCache's interface
(lmcache/v1/gpu_connector/gpu_connectors.py, GPUConnectorInterface) and resting on internals of 0.5.6, hence pinned.
Whole blocks are moved as they are, since their inside is packed for the processor; LMCache never looks into them.
"""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from lmcache.v1 import cache_engine, gpu_connector
from lmcache.v1.gpu_connector.gpu_connectors import GPUConnectorInterface
from vllm.distributed.kv_transfer.kv_connector.v1.lmcache_connector import LMCacheConnectorV1

WORD = torch.int64
"""Blocks are copied in words; a byte at a time would be slower."""


class Blocks:
    """vLLM's layers as [blocks, words of a block], and where a token range lies in them."""

    def __init__(self, layers: Sequence[torch.Tensor], tokens_of_layer_bytes: int) -> None:
        """``layers[i]``: [blocks, ...], each block contiguous. ``tokens_of_layer_bytes``: KV bytes of a token in one layer."""
        self.rows = [layer.flatten(1).view(torch.uint8).view(WORD) for layer in layers]
        if any(row.data_ptr() != layer.data_ptr() for row, layer in zip(self.rows, layers, strict=True)):
            raise RuntimeError("a block of vLLM's KV cache is not contiguous, so what is loaded would go into a copy of it")
        block_bytes = self.rows[0].shape[1] * WORD.itemsize
        if block_bytes % tokens_of_layer_bytes:
            raise RuntimeError(f"a block of {block_bytes} bytes does not hold whole tokens of {tokens_of_layer_bytes} bytes")
        self.tokens = block_bytes // tokens_of_layer_bytes

    def of(self, slots: torch.Tensor) -> torch.Tensor:
        """The block ids of these token slots, which fill whole blocks."""
        if len(slots) % self.tokens:
            raise RuntimeError(
                f"{len(slots)} tokens are not whole blocks of {self.tokens}; LMCache must not store partial chunks"
            )
        return slots[:: self.tokens] // self.tokens

    def fill(self, layer: int, blocks: torch.Tensor, source: torch.Tensor) -> None:
        """Copy ``source``, contiguous, into these blocks of a layer."""
        self.rows[layer].index_copy_(0, blocks, words(source).view(len(blocks), -1))

    def take(self, layer: int, blocks: torch.Tensor, target: torch.Tensor) -> None:
        """Copy these blocks of a layer into ``target``, contiguous."""
        torch.index_select(self.rows[layer], 0, blocks, out=words(target).view(len(blocks), -1))


def words(tensor: torch.Tensor) -> torch.Tensor:
    """All of a contiguous tensor, without a copy."""
    return tensor.view(-1).view(torch.uint8).view(WORD)


class OnCPU(GPUConnectorInterface):  # type: ignore[misc]
    """What both engines share. ``shape``: LMCache's (layers, 2, chunk tokens, KV heads, head size)."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.layers, self.hidden = int(shape[0]), int(shape[3]) * int(shape[4])
        self._token_bytes = 2 * self.hidden * dtype.itemsize
        self._blocks: Blocks | None = None

    def blocks(self, **given: Any) -> Blocks:
        """Over the caches that LMCache passes with each call; they never change."""
        if self._blocks is None:
            self._blocks = Blocks(given["kvcaches"], self._token_bytes)
        return self._blocks

    def to_gpu(self, memory_obj: Any, start: int, end: int, **kwargs: Any) -> None:
        """Never called in layerwise mode."""
        raise NotImplementedError

    def from_gpu(self, memory_obj: Any, start: int, end: int, **kwargs: Any) -> None:
        """Never called in layerwise mode."""
        raise NotImplementedError


class ChunksOnCPU(OnCPU):
    """One memory object per chunk, with all layers."""

    def to_gpu(self, memory_obj: Any, start: int, end: int, **kwargs: Any) -> None:
        """Fill the blocks of tokens [start, end)."""
        paged = self.blocks(**kwargs)
        blocks = paged.of(kwargs["slot_mapping"][start:end])
        for layer, piece in enumerate(words(memory_obj.tensor).view(self.layers, -1)):
            paged.fill(layer, blocks, piece)

    def from_gpu(self, memory_obj: Any, start: int, end: int, **kwargs: Any) -> None:
        """Take the blocks of tokens [start, end)."""
        paged = self.blocks(**kwargs)
        blocks = paged.of(kwargs["slot_mapping"][start:end])
        for layer, piece in enumerate(words(memory_obj.tensor).view(self.layers, -1)):
            paged.take(layer, blocks, piece)

    def batched_to_gpu(self, memory_objs: Any = None, starts: Any = None, ends: Any = None, **kwargs: Any) -> None:
        """One after the other."""
        for memory_obj, start, end in zip(memory_objs, starts, ends, strict=False):
            self.to_gpu(memory_obj, start, end, **kwargs)

    def batched_from_gpu(self, memory_objs: Any, starts: Any, ends: Any, **kwargs: Any) -> None:
        """One after the other."""
        for memory_obj, start, end in zip(memory_objs, starts, ends, strict=False):
            self.from_gpu(memory_obj, start, end, **kwargs)

    def get_shape(self, num_tokens: int) -> torch.Size:
        """Of a chunk, as LMCache's connectors for GPUs have it."""
        return torch.Size([2, self.layers, num_tokens, self.hidden])


class LayersOnCPU(OnCPU):
    """One memory object per chunk and layer, moved by generators that LMCache advances layer by layer."""

    def batched_to_gpu(self, starts: Any = None, ends: Any = None, *_: Any, **kwargs: Any) -> Generator[None, Any, None]:
        """Sent each layer's memory objects in turn; layers + 2 yields."""
        paged = self.blocks(**kwargs)
        blocks = [paged.of(kwargs["slot_mapping"][start:end]) for start, end in zip(starts, ends, strict=True)]
        for layer in range(self.layers):
            memory_objs = yield
            for memory_obj, where in zip(memory_objs, blocks, strict=False):
                paged.fill(layer, where, memory_obj.tensor)
        yield
        yield

    def batched_from_gpu(self, memory_objs: Any, starts: Any, ends: Any, **kwargs: Any) -> Generator[None, None, None]:
        """``memory_objs[layer][chunk]``; layers + 1 yields, each after its layer is copied."""
        paged = self.blocks(**kwargs)
        blocks = [paged.of(kwargs["slot_mapping"][start:end]) for start, end in zip(starts, ends, strict=True)]
        for layer in range(self.layers):
            for memory_obj, where in zip(memory_objs[layer], blocks, strict=True):
                paged.take(layer, where, memory_obj.tensor)
            yield
        yield

    def get_shape(self, num_tokens: int) -> torch.Size:
        """Of one layer of a chunk, as LMCache's connectors for GPUs have it."""
        return torch.Size([num_tokens, 2, self.hidden])


def create(config: Any, metadata: Any, engine: Any, layout_hints: Any = None) -> OnCPU:
    """In place of LMCache's CreateGPUConnector."""
    if metadata.use_mla:
        raise RuntimeError("models with latent attention (MLA) are not supported by the CPU adapter of LMCache")
    return (LayersOnCPU if config.use_layerwise else ChunksOnCPU)(metadata.kv_shape, metadata.kv_dtype)


def expect_layers(connector: Any) -> None:
    """In place of LMCache's assert_layerwise_gpu_connector, which knows its own classes only."""
    if not isinstance(connector, LayersOnCPU):
        raise TypeError(f"{type(connector).__name__} cannot move single layers")


class LMCacheOnCPU(LMCacheConnectorV1):  # type: ignore[misc]
    """LMCache's connector, with the adapter in its place."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        gpu_connector.CreateGPUConnector = create
        cache_engine.assert_layerwise_gpu_connector = expect_layers
        super().__init__(*args, **kwargs)
