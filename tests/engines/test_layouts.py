"""Every layout that vLLM can give a cache: those with blocks in one piece are loaded, the others refused in a sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from layouts import DENSE, IN_PIECES, Cache
from vllm.v1.kv_cache_layout import KVCacheLayout

from harness.core.errors import RunError, SetupError
from harness.engines.chunkwise import Chunkwise
from harness.engines.device import HostDevice
from harness.engines.layerwise import Layerwise
from harness.engines.paged import PagedKV
from harness.stores import open_store
from harness.testing.engines import EngineTests
from harness.testing.late_device import LateDevice
from harness.testing.small_kv import SmallKV

dense = pytest.mark.parametrize("cache", DENSE, ids=lambda cache: cache.name)


def elements(views: list[torch.Tensor], cache: Cache, layer: int, block: int) -> list[int]:
    """Where each byte of a block lies, by the tensors' own strides."""
    kernel_blocks = views[layer].shape[0] // cache.blocks
    part = views[layer][block * kernel_blocks : (block + 1) * kernel_blocks]
    places = torch.full_like(part, 0, dtype=torch.int64)
    for dim, size in enumerate(part.shape):
        index = torch.arange(size).view([-1 if i == dim else 1 for i in range(part.dim())])
        places = places + index * part.stride(dim) * part.element_size()
    return sorted((places.flatten() + part.data_ptr()).tolist())


def test_all_of_vllms_layouts_are_known_here() -> None:
    assert {cache.layout for cache in [*DENSE, *IN_PIECES]} == {layout.name for layout in KVCacheLayout}


@dense
def test_a_block_is_all_of_its_bytes_and_no_others(cache: Cache) -> None:
    views = cache.views()
    paged = PagedKV(views, 2, cache.block_tokens, cache.blocks)
    assert paged.blocks == cache.blocks
    assert paged.geometry.block_bytes == cache.spec().page_size_bytes
    for layer, block in ((0, 0), (3, 7), (5, 31)):
        (view,) = paged.targets(layer, [block])
        begin = torch.frombuffer(view, dtype=torch.uint8).data_ptr()
        size = views[0].element_size()
        assert elements(views, cache, layer, block) == list(range(begin, begin + len(view), size))


@dense
def test_layout_and_kernel_block_are_told(cache: Cache) -> None:
    """Where a dimension has one entry its place means nothing, as with MLA's single head."""
    paged = cache.build()
    assert paged.kernel_block == (cache.kernel_block or cache.block_tokens)
    if not cache.mla:
        assert paged.layout == cache.layout


@dense
def test_blocks_of_other_layouts_hold_other_bytes_only_where_heads_and_tokens_change_places(cache: Cache) -> None:
    """Which is why layout and kernel block belong to the keys."""
    views = cache.views()
    for layer in views:
        numbers = torch.arange(layer[0].numel() * layer.shape[0]).remainder(97).to(torch.uint8)
        layer.view(torch.uint8)[..., 0] = numbers[: layer.shape[0] * layer.shape[1] * layer.shape[2]].view(layer.shape[:3])
    paged = PagedKV(views, 2, cache.block_tokens, cache.blocks)
    first = paged.gather(0, [0])[:: cache.spec().state_content_size_bytes]
    heads, tokens = views[0].shape[1:3]
    by_head = [
        (b * heads + h) * tokens + n
        for b in range(views[0].shape[0] // cache.blocks)
        for h in range(heads)
        for n in range(tokens)
    ]
    by_token = [
        (b * heads + h) * tokens + n
        for b in range(views[0].shape[0] // cache.blocks)
        for n in range(tokens)
        for h in range(heads)
    ]
    assert list(first) == [number % 97 for number in (by_token if cache.layout.endswith("NHC") else by_head)]


@pytest.mark.parametrize("cache", IN_PIECES, ids=lambda cache: cache.name)
def test_a_block_in_pieces_is_refused(cache: Cache) -> None:
    wanted = f"the KV cache layout {cache.layout} keeps a block in pieces, .*; set VLLM_KV_CACHE_LAYOUT=LBNHC"
    with pytest.raises(SetupError, match=wanted):
        cache.build()


def test_kernel_blocks_make_whole_blocks() -> None:
    with pytest.raises(RunError, match="has 32 blocks, which 5 of vLLM's blocks can't be made of"):
        PagedKV(Cache("LBNHC").views(), 2, 16, 5)


class InLayouts(EngineTests):
    """The suite of engines over vLLM's caches; each class adds an engine."""

    port: ClassVar[type[HostDevice]] = HostDevice

    @pytest.fixture(params=DENSE, ids=lambda cache: cache.name)
    def kv(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallKV]:
        with open_store(f"file://{tmp_path}/kv") as store:
            yield SmallKV(request.param.build(self.port()), store)


class TestChunkwiseInLayouts(InLayouts):
    engine = Chunkwise
    options = {"pool": 3, "staged": True}


class TestLayerwiseInLayouts(InLayouts):
    engine = Layerwise
    options = {"groups": "4", "depth": 2}


class TestLayerwiseInLayoutsOnALateDevice(InLayouts):
    engine = Layerwise
    port = LateDevice
