"""vLLM's paged KV cache as bytes, and the ways into it: straight, or by copies of many blocks from host memory.

The contract of vLLM: one tensor per layer, its first dimension the block; everything behind one
block id is moved as one piece, since its inside is packed for one kind of processor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from harness.core.chunks import KVGeometry, Layout
from harness.core.errors import RunError, SetupError
from harness.engines.device import HostDevice, Rows, Stream, Table, device_of
from harness.engines.ring import LARGEST, Ring
from harness.stores.base import Memory


class PagedKV:
    """The paged KV cache of one rank.

    ``direct`` is true where any read may go straight into a block: host memory, each block contiguous. ``memory`` is where
    the blocks lie; a store that fills it (``Store.fills``) reads straight into them, also on a GPU. ``layout`` is the
    physical order of the dimensions by vLLM's name, such as LBNHC (where a dimension has one entry its place means nothing),
    and ``kernel_block`` the tokens in one of the attention kernel's blocks: both say how the bytes in a block lie.
    """

    def __init__(
        self,
        layers: Sequence[torch.Tensor],
        chunk_blocks: int,
        block_tokens: int,
        blocks: int | None = None,
        port: HostDevice | None = None,
    ) -> None:
        """``layers[i]`` has shape [blocks, ...], or [blocks * n, ...] where an attention kernel's block is the n-th part of the
        manager's; ``blocks`` is the manager's number, by default the tensors'. ``block_tokens`` are those of a manager's block.
        Raises RunError where the layers differ in shape, SetupError for a layout whose blocks lie in pieces.
        """
        first = layers[0]
        if any(layer.shape != first.shape or layer.dtype != first.dtype for layer in layers):
            raise RunError("the layers' KV caches differ in shape or type; only models with one kind of attention layer work")
        self.layers = tuple(layers)
        self.device = first.device
        self.port = port or device_of(first.device)
        self.blocks = first.shape[0] if blocks is None else blocks
        self.kernel_block = block_tokens * self.blocks // first.shape[0]
        self.layout = _layout_of(layers)
        self.rows = Rows([_rows_of(layer, self.blocks, self.layout) for layer in layers])
        self.geometry = KVGeometry(
            layers=len(layers),
            block_tokens=block_tokens,
            block_bytes=self.rows.block_bytes,
            chunk_blocks=chunk_blocks,
            dtype=str(first.dtype).removeprefix("torch."),
        )
        self.direct = type(self.port) is HostDevice
        self.memory: Memory = "host" if self.direct else "device"
        self._views = [[memoryview(row) for row in layer.numpy()] for layer in self.rows.layers] if self.direct else []
        self._ring: Ring | None = None

    def targets(self, layer: int, blocks: Sequence[int]) -> list[Any]:
        """What a read of these blocks of a layer fills: byte views where ``direct``, else uint8 tensors [block_bytes]."""
        views = self._views[layer] if self.direct else self.rows.layers[layer]
        return [views[block] for block in blocks]

    def scratch(self, size: int) -> Any:
        """``size`` bytes beside the blocks, in the form of ``targets``, for what a read brings and nobody wants."""
        return memoryview(bytearray(size)) if self.direct else torch.empty(size, dtype=torch.uint8, device=self.device)

    def buffers(self) -> list[torch.Tensor]:
        """The layers as uint8 [blocks, block_bytes]: the memory that ``targets`` are parts of."""
        return list(self.rows.layers)

    def ring(self, slots: int = 0) -> Ring:
        """The rank's host memory for reads on their way to blocks, a slot a layer of a chunk; shared by all engines.

        Who will take ``slots`` at once says so before the first load, so that nothing is allocated during one. The ring has
        fewer where they come to more than 256 MiB.
        """
        slot_bytes = Layout(self.geometry).layer_stride
        wanted = max(min(slots, LARGEST // slot_bytes), self.geometry.layers)
        if self._ring is None or self._ring.count < wanted:
            self._ring = Ring(self.port, slot_bytes, wanted)
        return self._ring

    def copy_in(self, table: Table, stream: Stream) -> None:
        """Queue one copy from host memory into blocks."""
        self.port.copy_in(self.rows, table, stream)

    def copy_out(self, table: Table, stream: Stream) -> None:
        """Queue one copy from blocks into host memory."""
        self.port.copy_out(self.rows, table, stream)

    def gather(self, layer: int, blocks: Sequence[int]) -> bytes:
        """The bytes of these blocks of a layer, one after the other, copied to the host."""
        self.port.record(self.port.current()).synchronize()
        return bytes(self.rows.layers[layer][list(blocks)].cpu().numpy().data)

    def scatter(self, layer: int, blocks: Sequence[int], source: torch.Tensor) -> None:
        """Copy staged bytes (uint8, [len(blocks) * block_bytes]) into these blocks of a layer, but for SKIP.

        Queued on the current stream; ``source`` stays as it is until the copy is done.
        """
        ids = np.array([blocks], np.int64)
        self.copy_in(Table(source, np.zeros(1, np.int64), np.array([layer], np.int64), ids), self.port.current())


def _layout_of(layers: Sequence[torch.Tensor]) -> str:
    """The names of the dimensions from the outermost to the innermost, as vLLM writes them; L is the layer, B the block."""
    first = layers[0]
    strides = [stride * first.element_size() for stride in first.stride()]
    shared = len(layers) > 1 and layers[1].untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
    between = abs(layers[1].data_ptr() - first.data_ptr()) if shared else sum(map(abs, strides)) * max(first.shape)
    names = ["B", *("HNC" if first.dim() == 4 else (str(i) for i in range(1, first.dim())))]
    pairs = [(between, "L"), *zip(strides, names, strict=True)]
    return "".join(name for _, name in sorted(pairs, key=lambda pair: -pair[0]))


def _rows_of(layer: torch.Tensor, blocks: int, layout: str) -> torch.Tensor:
    """The layer as [blocks, block bytes] of uint8, without a copy: the inside of a block in the order in which it lies."""
    if blocks < 1 or layer.shape[0] % blocks:
        raise RunError(f"the KV cache has {layer.shape[0]} blocks, which {blocks} of vLLM's blocks can't be made of")
    inside = layer.unflatten(0, (blocks, -1))
    order = sorted(range(1, inside.dim()), key=lambda i: -inside.stride(i) if inside.shape[i] > 1 else 1)
    dense = inside.permute(0, *order)
    if not dense[0].is_contiguous():
        raise SetupError(
            f"the KV cache layout {layout} keeps a block in pieces, which no store can hold; set VLLM_KV_CACHE_LAYOUT=LBNHC"
        )
    rows = torch.as_strided(dense, (blocks, dense[0].numel()), (dense.stride(0), 1))
    return rows.view(torch.uint8)
