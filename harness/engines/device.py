"""The device port: streams, events, host memory that a device copies from, and copies of many blocks in one call.

``HostDevice`` is for caches in host memory, ``CudaDevice`` for NVIDIA GPUs; ``harness.testing.late_device`` is a fake that
carries out copies late and in any order that its streams allow.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from harness.core.chunks import ALIGNMENT, SKIP
from harness.core.spans import DeviceSpan, Span

Numbers = npt.NDArray[np.int64]
Stream = Any
"""What a device makes of it; None is a host's."""


class Event(Protocol):
    """A point in a stream that comes to pass once all work queued before it is done."""

    def query(self) -> bool:
        """Whether it has come to pass."""

    def synchronize(self) -> None:
        """Wait for it on the host."""


Mark = Any
"""A point in a stream of which the device takes the time; what a device makes of it."""


class _Past:
    """An event that has come to pass."""

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Table:
    """What one copy moves between host memory and the paged cache: n layers of chunks, ``per`` blocks each.

    ``memory``: uint8, one-dimensional. ``offsets`` [n]: where in it each layer of a chunk begins. ``layers`` [n].
    ``blocks`` [n, per]: ids; SKIP is not moved.
    """

    memory: torch.Tensor
    offsets: Numbers
    layers: Numbers
    blocks: Numbers


class Rows:
    """The layers of a paged cache as uint8 [blocks, block bytes], and their addresses as numbers."""

    def __init__(self, layers: Sequence[torch.Tensor]) -> None:
        self.layers = tuple(layers)
        self.block_bytes = layers[0].shape[1]
        self._bases = np.array([layer.data_ptr() for layer in layers], np.int64)
        self._strides = np.array([layer.stride(0) for layer in layers], np.int64)

    def pointers(self, table: Table) -> tuple[Numbers, Numbers, Numbers]:
        """Addresses in host memory, addresses in the cache, and sizes of all runs that are contiguous on both sides."""
        inside = np.arange(table.blocks.shape[1], dtype=np.int64) * self.block_bytes
        keep = table.blocks != SKIP
        host = (table.memory.data_ptr() + table.offsets[:, None] + inside)[keep]
        cache = (self._bases[table.layers][:, None] + table.blocks * self._strides[table.layers][:, None])[keep]
        first = np.ones(len(host), bool)
        first[1:] = (np.diff(host) != self.block_bytes) | (np.diff(cache) != self.block_bytes)
        begins = np.flatnonzero(first)
        return host[begins], cache[begins], np.diff(begins, append=len(host)) * self.block_bytes


class HostDevice:
    """A copy is over when its call returns, so streams and events have nothing to say."""

    def stream(self) -> Stream:
        """A new stream, beside that of the forward."""
        return None

    def current(self) -> Stream:
        """The stream of the forward, in the calling thread."""
        return None

    def record(self, stream: Stream) -> Event:
        """An event after all that has been queued on ``stream``."""
        return _Past()

    def wait(self, stream: Stream, event: Event) -> None:
        """What is queued on ``stream`` from now on comes after ``event``."""

    def mark(self, stream: Stream) -> Mark:
        """A point after all that has been queued on ``stream``, of which the device takes the time."""
        return time.perf_counter()

    def seconds(self, first: Mark, second: Mark) -> float:
        """From one mark to the other, on the device's clock. Waits until it has come to both."""
        return float(second - first)

    def memory(self, size: int) -> torch.Tensor:
        """``size`` bytes of host memory that copies may use, aligned to 4 KiB."""
        raw = torch.empty(size + ALIGNMENT, dtype=torch.uint8)
        begin = -raw.data_ptr() % ALIGNMENT
        return raw[begin : begin + size]

    def returned(self, memory: torch.Tensor) -> None:
        """Nobody needs what stands in ``memory`` any more. A fake spoils it, to show who does."""

    def copy_in(self, rows: Rows, table: Table, stream: Stream) -> None:
        """Queue one copy from host memory into blocks. ``table.memory`` stays as it is until the copy is done."""
        skips = bool((table.blocks == SKIP).any())
        for memory, layer, blocks in _pieces(rows, table):
            if skips:
                keep = blocks != SKIP
                layer[blocks[keep]] = memory[keep]
            else:
                layer[blocks] = memory

    def copy_out(self, rows: Rows, table: Table, stream: Stream) -> None:
        """Queue one copy from blocks, none of them SKIP, into host memory."""
        for memory, layer, blocks in _pieces(rows, table):
            np.take(layer, blocks, axis=0, out=memory)


def _pieces(rows: Rows, table: Table) -> Any:
    """(host memory [per, block bytes], the layer's rows, blocks [per]) of each entry, as arrays: no step a block."""
    per = table.blocks.shape[1]
    memory = table.memory.numpy()
    layers = [layer.numpy() for layer in rows.layers]
    for offset, number, blocks in zip(table.offsets.tolist(), table.layers.tolist(), table.blocks, strict=True):
        yield memory[offset : offset + per * rows.block_bytes].reshape(per, -1), layers[number], blocks


class CudaDevice(HostDevice):
    """One NVIDIA GPU. A copy is one driver call by vLLM's operator where vLLM has it, else a slab and a call a layer."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Part of vLLM 0.28 and later, and loaded with it. Below 28 KiB a block a kernel may be faster still.
        self._swap = getattr(getattr(torch.ops, "_C_cache_ops", None), "swap_blocks_batch", None)

    def stream(self) -> Stream:
        """A new stream."""
        return torch.cuda.Stream(self._device)

    def current(self) -> Stream:
        """That of the calling thread."""
        return torch.cuda.current_stream(self._device)

    def record(self, stream: Stream) -> Event:
        """One that frees the processor while it is waited for."""
        event: Event = stream.record_event(torch.cuda.Event(blocking=True))
        return event

    def wait(self, stream: Stream, event: Event) -> None:
        """On the device; the host goes on."""
        stream.wait_event(event)

    def mark(self, stream: Stream) -> Mark:
        """A timing event."""
        return stream.record_event(torch.cuda.Event(enable_timing=True))

    def seconds(self, first: Mark, second: Mark) -> float:
        """By cudaEventElapsedTime, to about half a microsecond."""
        first.synchronize()
        second.synchronize()
        return float(first.elapsed_time(second)) / 1000

    def memory(self, size: int) -> torch.Tensor:
        """Pinned, which is aligned to pages."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def copy_in(self, rows: Rows, table: Table, stream: Stream) -> None:
        """Nothing on the device writes to host memory that is about to be copied, so it may be read ahead of the stream."""
        with torch.cuda.stream(stream):
            if self._swap is not None:
                host, cache, sizes = map(torch.from_numpy, rows.pointers(table))
                self._swap(host, cache, sizes, True)
            else:
                self._by_slab(rows, table, into_cache=True)

    def copy_out(self, rows: Rows, table: Table, stream: Stream) -> None:
        """In the order of the stream, since the blocks may have been written just before."""
        with torch.cuda.stream(stream):
            if self._swap is not None:
                host, cache, sizes = map(torch.from_numpy, rows.pointers(table))
                self._swap(cache, host, sizes, False)
            else:
                self._by_slab(rows, table, into_cache=False)

    def _by_slab(self, rows: Rows, table: Table, *, into_cache: bool) -> None:
        """A slab on the device between the two: one copy a layer of a chunk on the host's side, one call a layer on the other."""
        per = table.blocks.shape[1]
        size = per * rows.block_bytes
        for number in np.unique(table.layers).tolist():
            own = np.flatnonzero(table.layers == number)
            blocks = table.blocks[own].reshape(-1)
            kept = torch.from_numpy(np.flatnonzero(blocks != SKIP)).to(self._device)
            ids = torch.from_numpy(blocks[blocks != SKIP]).to(self._device)
            layer = rows.layers[number]
            slab = torch.empty(len(own), size, dtype=torch.uint8, device=self._device)
            parts = [table.memory[offset : offset + size] for offset in table.offsets[own].tolist()]
            if into_cache:
                for position, part in enumerate(parts):
                    slab[position].copy_(part, non_blocking=True)
                _wide(layer).index_copy_(0, ids, _wide(slab.view(-1, rows.block_bytes))[kept])
            else:
                torch.index_select(_wide(layer), 0, ids, out=_wide(slab.view(-1, rows.block_bytes)))
                for position, part in enumerate(parts):
                    part.copy_(slab[position], non_blocking=True)


class DeviceClock:
    """Turns marks of one step into times of the host's clock (``time.perf_counter``).

    Made where the forward's stream has nothing left to do, so that its first mark and the host's time are the same moment.
    """

    def __init__(self, port: HostDevice) -> None:
        self._port = port
        self._begin_s = time.perf_counter()
        self._begin = port.mark(port.current())

    def time_of(self, mark: Mark) -> float:
        """Waits until the device has come to it."""
        return self._begin_s + self._port.seconds(self._begin, mark)

    def span(self, span: DeviceSpan) -> Span:
        """With the times of its marks. Waits until the device has come to them."""
        start_s, end_s = self.time_of(span.before), self.time_of(span.after)
        return Span(span.kind, span.layer, start_s, end_s, span.bytes, span.keys, span.request)


def _wide(rows: torch.Tensor) -> torch.Tensor:
    """Rows of bytes as rows of int64 where they can be seen so: an eighth of the elements to move."""
    odd = rows.shape[1] % 8 or rows.stride(0) % 8 or rows.storage_offset() % 8
    return rows if odd else rows.view(torch.int64)


def device_of(device: torch.device) -> HostDevice:
    """The port of the device that tensors lie on."""
    return HostDevice() if device.type == "cpu" else CudaDevice(device)
