"""Copies between host memory and blocks: each way of carrying a table out moves the same bytes, and nothing else."""

import ctypes
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.chunks import ALIGNMENT, SKIP
from harness.engines.device import CudaDevice, HostDevice, Rows, Table
from harness.testing.late_device import LateDevice

WAYS = ["host", "late", "CUDA with vLLM's operator", "CUDA by a slab"]


def swap(source: torch.Tensor, to: torch.Tensor, sizes: torch.Tensor, any_order: bool) -> None:
    """What vLLM's operator does, on the host. It wants int64 tensors of equal lengths."""
    assert {tensor.dtype for tensor in (source, to, sizes)} == {torch.int64}
    for a, b, size in zip(source.tolist(), to.tolist(), sizes.tolist(), strict=True):
        ctypes.memmove(b, a, size)


def port(way: str) -> HostDevice:
    """The CUDA ways over tensors of the host: all but the driver's part."""
    if way == "host":
        return HostDevice()
    if way == "late":
        return LateDevice()
    device = CudaDevice(torch.device("cpu"))
    device._swap = swap if "operator" in way else None
    return device


@pytest.fixture(autouse=True)
def _streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rows, Table]:
    """A cache whose layers are tensors of their own or parts of one, and a table that names no block of a layer twice."""
    layers, blocks, size = draw(st.integers(1, 3)), draw(st.integers(4, 12)), draw(st.sampled_from([1, 7, 8, 24]))
    whole = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (blocks, layers, size), np.uint8))
    apart = draw(st.booleans())
    rows = Rows([whole[:, i].clone() if apart else whole[:, i] for i in range(layers)])
    per, count = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    entries, free = [], {layer: draw(st.permutations(range(blocks))) for layer in range(layers)}
    for _ in range(count):
        layer = draw(st.integers(0, layers - 1))
        if len(free[layer]) >= per:
            entries.append((layer, [SKIP if draw(st.integers(0, 3)) == 0 else free[layer].pop() for _ in range(per)]))
    memory = torch.from_numpy(np.random.default_rng(1).integers(0, 256, 6 * per * size + 5, np.uint8))
    places = draw(st.permutations(range(6)))[: len(entries)]
    return rows, Table(
        memory,
        np.array(places, np.int64) * per * size + 5,
        np.array([layer for layer, _ in entries], np.int64),
        np.array([ids for _, ids in entries], np.int64).reshape(-1, per),
    )


def moved(rows: Rows, table: Table, way: str, *, into_cache: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Cache and host memory after the copy, which is made between clones."""
    whole = torch.stack(list(rows.layers), 1).clone()
    mine = Rows([whole[:, i] for i in range(len(rows.layers))])
    own = Table(table.memory.clone(), table.offsets, table.layers, table.blocks)
    device = port(way)
    stream = device.stream() if way == "late" else None
    (device.copy_in if into_cache else device.copy_out)(mine, own, stream)
    if isinstance(device, LateDevice):
        device.settle()
    return list(mine.layers), own.memory


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)
@given(case=cases())
def test_blocks_get_their_bytes_and_no_others_change(way: str, case: tuple[Rows, Table]) -> None:
    rows, table = case
    cache, memory = moved(rows, table, way, into_cache=True)
    wanted = [layer.clone() for layer in rows.layers]
    for offset, layer, ids in zip(table.offsets, table.layers, table.blocks, strict=True):
        for position, block in enumerate(ids):
            if block != SKIP:
                begin = int(offset) + position * rows.block_bytes
                wanted[layer][block] = table.memory[begin : begin + rows.block_bytes]
    assert all(torch.equal(found, expected) for found, expected in zip(cache, wanted, strict=True))
    assert torch.equal(memory, table.memory)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None)
@given(case=cases())
def test_host_memory_gets_the_blocks_bytes_and_no_others_change(way: str, case: tuple[Rows, Table]) -> None:
    rows, table = case
    keep = [i for i in range(len(table.layers)) if SKIP not in table.blocks[i]]  # nobody saves what was not computed
    table = Table(table.memory, table.offsets[keep], table.layers[keep], table.blocks[keep])
    cache, memory = moved(rows, table, way, into_cache=False)
    wanted = table.memory.clone()
    for offset, layer, ids in zip(table.offsets, table.layers, table.blocks, strict=True):
        for position, block in enumerate(ids):
            begin = int(offset) + position * rows.block_bytes
            wanted[begin : begin + rows.block_bytes] = rows.layers[layer][block]
    assert torch.equal(memory, wanted)
    assert all(torch.equal(found, expected) for found, expected in zip(cache, rows.layers, strict=True))


def test_neighbours_on_both_sides_are_one_run() -> None:
    rows = Rows([torch.zeros(8, 16, dtype=torch.uint8)])
    table = Table(torch.zeros(96, dtype=torch.uint8), np.array([0]), np.array([0]), np.array([[2, 3, 4, 7, SKIP, 6]]))
    host, cache, sizes = rows.pointers(table)
    base = rows.layers[0].data_ptr()
    assert (host - table.memory.data_ptr()).tolist() == [0, 48, 80]
    assert (cache - base).tolist() == [32, 112, 96]
    assert sizes.tolist() == [48, 16, 16]


def test_memory_for_copies_begins_on_a_page() -> None:
    for size in (1, 5000, 1 << 20):
        memory = HostDevice().memory(size)
        assert (memory.data_ptr() % ALIGNMENT, memory.nbytes) == (0, size)
