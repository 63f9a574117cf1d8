"""Reading straight into the blocks and going through staging memory give the same bytes, whatever the settings."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.chunks import SKIP, ChunkKey, LoadRequest
from harness.core.options import parse_options
from harness.core.spans import Recorder
from harness.engines.base import Engine
from harness.engines.chunkwise import Chunkwise
from harness.engines.layerwise import Layerwise
from harness.stores import open_store
from harness.stores.base import Store
from harness.testing.small_kv import Shape, SmallKV

SHAPES = st.builds(
    Shape,
    width=st.integers(1, 40),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.uint8]),
    layers=st.integers(1, 5),
    blocks=st.just(16),
    heads=st.integers(1, 2),
    block_tokens=st.sampled_from([1, 16]),
    chunk_blocks=st.integers(1, 3),
    interleaved=st.booleans(),
)

CHUNKWISE = st.fixed_dictionaries({"pool": st.sampled_from([0, 1, 3, "default"]), "batch": st.integers(1, 4)})
LAYERWISE = st.fixed_dictionaries(
    {
        "depth": st.integers(1, 7),
        "groups": st.integers(1, 6).map(str),
        "readers": st.integers(2, 5),
        "loops": st.integers(0, 2),
        "batch": st.integers(1, 4),
    }
)
CASES = st.one_of(
    st.tuples(st.just(Chunkwise), CHUNKWISE),
    st.tuples(st.just(Layerwise), LAYERWISE),
)


@st.composite
def blocks_of_requests(draw: st.DrawFn, blocks: int, per: int) -> list[list[int]]:
    """For each request, the blocks of its chunks; no block twice, some skipped."""
    free = draw(st.permutations(range(blocks)))
    out = []
    for chunks in draw(st.lists(st.integers(0, 2), min_size=1, max_size=2)):
        skips = draw(st.lists(st.integers(0, 3).map(lambda n: n == 0), min_size=chunks * per, max_size=chunks * per))
        out.append([SKIP if skip else free.pop() for skip in skips])
    return out


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"file://{tmp_path}/kv") as store:
        yield store


def run(
    engine: type[Engine], values: Mapping[str, Any], kv: SmallKV, batch: list[LoadRequest], lost: set[ChunkKey]
) -> frozenset[int]:
    made = engine(kv.store, kv.cache, parse_options(engine.Options, values, "the test"), Recorder())
    try:
        return kv.step(made, batch, [key for request in batch for key in request.chunks if key in lost])
    finally:
        made.close()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=SHAPES, case=CASES, draw=st.data())
def test_same_bytes_and_same_failures(
    store: Store, shape: Shape, case: tuple[type[Engine], dict[str, Any]], draw: st.DataObject
) -> None:
    engine, values = case
    direct, staged = (SmallKV(shape.build(), store) for _ in range(2))
    assert direct.cache.direct
    per = shape.chunk_blocks
    scattered = draw.draw(blocks_of_requests(shape.blocks, per), label="blocks")
    batch = [direct.request(f"r{i}", len(blocks) // per, blocks) for i, blocks in enumerate(scattered)]
    keys = sorted(key for request in batch for key in request.chunks)
    lost = draw.draw(st.sets(st.sampled_from(keys)), label="lost") if keys else set()
    store.delete(lost)
    verify = draw.draw(st.booleans(), label="verify")
    failed = [run(engine, {**values, "staged": way, "verify": verify}, kv, batch, lost) for way, kv in ((0, direct), (1, staged))]
    assert failed[0] == failed[1]
    for layer in range(shape.layers):
        for block in set(range(shape.blocks)) - failed[0]:
            assert torch.equal(
                direct.cache.layers[layer][block].view(torch.uint8), staged.cache.layers[layer][block].view(torch.uint8)
            )
