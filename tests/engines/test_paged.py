"""The paged cache as bytes: what is taken, what is refused, and both ways in."""

import pytest
import torch

from harness.core.chunks import SKIP, KVGeometry
from harness.core.errors import RunError
from harness.engines.paged import PagedKV
from harness.testing.small_kv import PADDED, WHOLE_PAGES, Shape, bytes_of

SHAPES = [WHOLE_PAGES, PADDED, Shape(layers=1, blocks=3, heads=1, block_tokens=4, width=1, dtype=torch.float16)]


@pytest.fixture(params=SHAPES, ids=["interleaved", "padded", "smallest"])
def cache(request: pytest.FixtureRequest) -> PagedKV:
    shape: Shape = request.param
    return shape.build()


def raw(cache: PagedKV, layer: int, block: int) -> bytes:
    """The bytes of a block, read element by element in the order of the tensor."""
    return bytes_of(cache.layers[layer], cache.blocks)[block]


def test_geometry_is_read_off_the_tensors() -> None:
    layers = [torch.zeros(10, 8, 128, 128, dtype=torch.bfloat16) for _ in range(3)]
    cache = PagedKV(layers, chunk_blocks=2, block_tokens=128)
    assert cache.geometry == KVGeometry(layers=3, block_tokens=128, block_bytes=262_144, chunk_blocks=2, dtype="bfloat16")
    assert cache.blocks == 10
    assert cache.direct


def test_layers_must_be_alike() -> None:
    first = torch.zeros(10, 2, 16, 32)
    for other in (torch.zeros(10, 2, 16, 64), torch.zeros(10, 2, 16, 32, dtype=torch.float64)):
        with pytest.raises(RunError, match="only models with one kind of attention layer work"):
            PagedKV([first, other], 2, 16)


def test_gather_reads_blocks_in_the_order_asked_for(cache: PagedKV) -> None:
    for layer in range(cache.geometry.layers):
        assert cache.gather(layer, [2, 0]) == raw(cache, layer, 2) + raw(cache, layer, 0)
        assert cache.gather(layer, []) == b""


def test_targets_are_the_blocks_themselves(cache: PagedKV) -> None:
    layer = cache.geometry.layers - 1
    others = [raw(cache, layer, block) for block in (0, 1)]
    (view,) = cache.targets(layer, [2])
    assert bytes(view) == raw(cache, layer, 2)
    data = bytes(i % 251 for i in range(cache.geometry.block_bytes))
    view[:] = data
    assert raw(cache, layer, 2) == data
    assert [raw(cache, layer, block) for block in (0, 1)] == others


def test_scatter_writes_what_gather_reads(cache: PagedKV) -> None:
    size = cache.geometry.block_bytes
    source = torch.arange(3 * size).remainder(249).to(torch.uint8)
    before = raw(cache, 0, 1)
    cache.scatter(0, [2, SKIP, 0], source)
    data = source.numpy().tobytes()
    assert raw(cache, 0, 2) == data[:size]
    assert raw(cache, 0, 0) == data[2 * size :]
    assert raw(cache, 0, 1) == before
