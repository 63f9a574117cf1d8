"""vLLM's paged KV cache as bytes, and the two ways into it: straight, or staging and copy.

The contract of vLLM: one tensor a layer, its first dimension the block; everything behind one
block id is moved as one piece, since its inside is packed for one kind of processor.
"""

from collections.abc import Sequence
from typing import Any

import torch

from harness.core.chunks import SKIP, KVGeometry
from harness.core.errors import RunError
from harness.stores.base import Memory


class PagedKV:
    """The paged KV cache of one rank.

    ``direct`` is true where any read may go straight into a block: host memory, each block contiguous. ``memory`` is where
    the blocks lie; a store that fills it (``Store.fills``) reads straight into them, also on a GPU.
    """

    def __init__(self, layers: Sequence[torch.Tensor], chunk_blocks: int, block_tokens: int) -> None:
        """``layers[i]`` has shape [blocks, ...]. Raises RunError where the layers differ in shape."""
        first = layers[0]
        if any(layer.shape != first.shape or layer.dtype != first.dtype for layer in layers):
            raise RunError("the layers' KV caches differ in shape or type; only models with one kind of attention layer work")
        self.layers = tuple(layers)
        self.device = first.device
        self.blocks = first.shape[0]
        self.geometry = KVGeometry(
            layers=len(layers),
            block_tokens=block_tokens,
            block_bytes=first[0].numel() * first.element_size(),
            chunk_blocks=chunk_blocks,
            dtype=str(first.dtype).removeprefix("torch."),
        )
        self.memory: Memory = "host" if first.device.type == "cpu" else "device"
        self.direct = first.device.type == "cpu" and all(layer[0].is_contiguous() for layer in layers)
        self._views = [self._bytes_of(layer) for layer in layers] if self.direct else []
        self._rows = [self._rows_of(layer) for layer in layers]

    @staticmethod
    def _rows_of(layer: torch.Tensor) -> torch.Tensor:
        """The layer as [blocks, block bytes] of uint8, without a copy."""
        if not layer[0].is_contiguous():
            raise RunError(f"a KV block with strides {tuple(layer.stride())} is not contiguous, which no store can hold")
        return layer.flatten(1).view(torch.uint8) if layer.is_contiguous() else layer.view(torch.uint8).flatten(1)

    def _bytes_of(self, layer: torch.Tensor) -> list[memoryview]:
        rows = self._rows_of(layer)
        return [memoryview(rows[i].numpy()) for i in range(rows.shape[0])]

    def targets(self, layer: int, blocks: Sequence[int]) -> list[Any]:
        """What a read of these blocks of a layer fills: byte views where ``direct``, else uint8 tensors [block_bytes]."""
        views = self._views[layer] if self.direct else self._rows[layer]
        return [views[block] for block in blocks]

    def scratch(self, size: int) -> Any:
        """``size`` bytes beside the blocks, in the form of ``targets``, for what a read brings and nobody wants."""
        return memoryview(bytearray(size)) if self.direct else torch.empty(size, dtype=torch.uint8, device=self.device)

    def buffers(self) -> list[torch.Tensor]:
        """The layers as uint8 [blocks, block_bytes]: the memory that ``targets`` are parts of."""
        return list(self._rows)

    def gather(self, layer: int, blocks: Sequence[int]) -> bytes:
        """The bytes of these blocks of a layer, one after the other, copied to the host."""
        return bytes(self._rows[layer][list(blocks)].cpu().numpy().data)

    def scatter(self, layer: int, blocks: Sequence[int], source: torch.Tensor) -> None:
        """Copy staged bytes (uint8, [len(blocks) * block_bytes]) into these blocks of a layer, but for SKIP.

        On CUDA the copy is queued on the current stream, and is asynchronous where ``source`` is pinned.
        """
        rows = self._rows[layer]
        for position, block in enumerate(blocks):
            if block == SKIP:
                continue
            piece = source[position * rows.shape[1] : (position + 1) * rows.shape[1]]
            rows[block].copy_(piece, non_blocking=True)


def staging(size: int, device: torch.device) -> torch.Tensor:
    """Host memory of ``size`` bytes for reads on their way to ``device``; pinned where that is CUDA."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
