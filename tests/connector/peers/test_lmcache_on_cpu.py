"""The adapter under LMCache, over tensors of vLLM's shape: every byte comes back, by either engine, wherever its block lies."""

import importlib
import inspect
from collections.abc import Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import lacking

pytestmark = [pytest.mark.filterwarnings("default")]  # those of importing LMCache and vLLM are not ours to mend

LAYERS, HEADS, HEAD_SIZE, BLOCK, CHUNK_BLOCKS = 3, 2, 8, 4, 2
CHUNK = BLOCK * CHUNK_BLOCKS
SPARE = 3
"""Blocks that belong to nobody, and must stay as they are."""


@pytest.fixture(scope="module")
def adapter() -> Any:
    """The module, which only vLLM's processes import otherwise."""
    try:
        return importlib.import_module("harness.connector.peers.adapters.lmcache_on_cpu")
    except ImportError as error:
        return lacking(f"LMCache beside vLLM ({error})", "pip install 'ttft[dev]' and a vLLM; make test does")


def create(adapter: Any, layerwise: bool, dtype: torch.dtype = torch.float32) -> Any:
    """As LMCache asks for its connector."""
    shape = (LAYERS, 2, CHUNK, HEADS, HEAD_SIZE)
    metadata = SimpleNamespace(use_mla=False, kv_shape=shape, kv_dtype=dtype)
    return adapter.create(SimpleNamespace(use_layerwise=layerwise), metadata, "vllm", layout_hints=None)


def cache(blocks: int, dtype: torch.dtype, filled: bool) -> list[torch.Tensor]:
    """vLLM's, a layer a tensor: [blocks, heads, tokens, key and value]. Every element is different where it is ``filled``."""
    shape = (blocks, HEADS, BLOCK, 2 * HEAD_SIZE)
    if not filled:
        return [torch.zeros(shape, dtype=dtype) for _ in range(LAYERS)]
    words = torch.randint(0, 256, (LAYERS, *shape[:-1], shape[-1] * dtype.itemsize), dtype=torch.uint8)
    return [layer.view(dtype) for layer in words]


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())


def slots(blocks: Sequence[int]) -> torch.Tensor:
    """The slot of each token in vLLM's cache."""
    return torch.tensor([block * BLOCK + token for block in blocks for token in range(BLOCK)])


def memory(connector: Any, count: int, dtype: torch.dtype) -> list[Any]:
    """Memory objects as LMCache allocates them."""
    return [SimpleNamespace(tensor=torch.zeros(connector.get_shape(CHUNK), dtype=dtype)) for _ in range(count)]


def store(connector: Any, layerwise: bool, kvcaches: Any, blocks: Sequence[int], dtype: torch.dtype) -> list[Any]:
    """Take all chunks of ``blocks``; what LMCache would keep."""
    count = len(blocks) // CHUNK_BLOCKS
    starts = [chunk * CHUNK for chunk in range(count)]
    given = {"slot_mapping": slots(blocks), "kvcaches": kvcaches}
    ends = [start + CHUNK for start in starts]
    if not layerwise:
        kept = memory(connector, count, dtype)
        connector.batched_from_gpu(kept, starts, ends, **given)
        return kept
    layered = [memory(connector, count, dtype) for _ in range(LAYERS)]
    assert len(list(connector.batched_from_gpu(layered, starts, ends, **given))) == LAYERS + 1
    return layered


def load(connector: Any, layerwise: bool, kvcaches: Any, blocks: Sequence[int], kept: list[Any]) -> None:
    """Fill ``blocks`` with what was kept."""
    starts = [chunk * CHUNK for chunk in range(len(blocks) // CHUNK_BLOCKS)]
    given = {"slot_mapping": slots(blocks), "kvcaches": kvcaches}
    ends = [start + CHUNK for start in starts]
    if not layerwise:
        connector.batched_to_gpu(kept, starts, ends, **given)
        return
    consumer = connector.batched_to_gpu(starts, ends, **given)
    next(consumer)
    for layer in kept:
        consumer.send(layer)
    next(consumer)
    with pytest.raises(StopIteration):
        next(consumer)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), count=st.integers(1, 4), layerwise=st.booleans(), half=st.booleans())
def test_every_byte_comes_back_wherever_its_block_lies(
    adapter: Any, data: st.DataObject, count: int, layerwise: bool, half: bool
) -> None:
    dtype = torch.bfloat16 if half else torch.float32
    total = count * CHUNK_BLOCKS + SPARE
    before, after = (data.draw(st.permutations(range(total)))[: count * CHUNK_BLOCKS] for _ in range(2))
    there, here = cache(total, dtype, filled=True), cache(total, dtype, filled=False)
    kept = store(create(adapter, layerwise, dtype), layerwise, there, before, dtype)
    load(create(adapter, layerwise, dtype), layerwise, here, after, kept)
    for layer in range(LAYERS):
        for source, target in zip(before, after, strict=True):
            assert raw(there[layer][source]) == raw(here[layer][target])
        assert not any(any(raw(here[layer][block])) for block in set(range(total)) - set(after))


@pytest.mark.parametrize("layerwise", [False, True])
def test_a_chunk_holds_its_blocks_and_no_others(adapter: Any, layerwise: bool) -> None:
    kvcaches = cache(6, torch.float32, filled=True)
    kept = store(create(adapter, layerwise), layerwise, kvcaches, [5, 0, 2, 3], torch.float32)
    for layer in range(LAYERS):
        for chunk, blocks in enumerate([(5, 0), (2, 3)]):
            piece = raw(kept[layer][chunk].tensor) if layerwise else raw(kept[chunk].tensor)
            size = len(piece) if layerwise else len(piece) // LAYERS
            wanted = b"".join(raw(kvcaches[layer][block]) for block in blocks)
            assert piece[0 if layerwise else layer * size :][:size] == wanted


def test_layers_move_when_it_is_their_turn_and_not_before(adapter: Any) -> None:
    kvcaches = cache(2, torch.float32, filled=True)
    layered = [memory(create(adapter, True), 1, torch.float32) for _ in range(LAYERS)]
    given = {"slot_mapping": slots([0, 1]), "kvcaches": kvcaches}
    for layer, _ in zip(range(LAYERS), create(adapter, True).batched_from_gpu(layered, [0], [CHUNK], **given), strict=False):
        assert [any(raw(one[0].tensor)) for one in layered] == [other <= layer for other in range(LAYERS)]


@pytest.mark.parametrize("layerwise", [False, True])
def test_a_part_of_a_block_is_refused(adapter: Any, layerwise: bool) -> None:
    connector, kvcaches = create(adapter, layerwise), cache(2, torch.float32, filled=True)
    given = {"slot_mapping": slots([0, 1])[:-1], "kvcaches": kvcaches}
    with pytest.raises(RuntimeError, match="7 tokens are not whole blocks of 4; LMCache must not store partial chunks"):
        list(connector.batched_from_gpu([memory(connector, 1, torch.float32)] * LAYERS, [0], [CHUNK], **given) or ())


def test_a_cache_that_cannot_be_moved_block_by_block_is_refused(adapter: Any) -> None:
    permuted = [layer.transpose(1, 2) for layer in cache(2, torch.float32, filled=True)]
    with pytest.raises(RuntimeError, match="is not contiguous, so what is loaded would go into a copy"):
        adapter.Blocks(permuted, 2 * HEADS * HEAD_SIZE * 4)
    with pytest.raises(RuntimeError, match="does not hold whole tokens of 24 bytes"):
        adapter.Blocks(cache(2, torch.float32, filled=True), 24)


def test_latent_attention_is_refused(adapter: Any) -> None:
    with pytest.raises(RuntimeError, match=r"latent attention \(MLA\) are not supported by the CPU adapter of LMCache"):
        adapter.create(SimpleNamespace(use_layerwise=False), SimpleNamespace(use_mla=True), "vllm")


def test_only_the_layerwise_one_passes_for_layerwise(adapter: Any) -> None:
    adapter.expect_layers(create(adapter, True))
    with pytest.raises(TypeError, match="ChunksOnCPU cannot move single layers"):
        adapter.expect_layers(create(adapter, False))


def test_lmcache_is_what_the_adapter_rests_on(adapter: Any) -> None:
    """Where this fails, LMCache has changed: read its new interface, then mend the adapter and the pin together."""
    assert version("lmcache") == "0.5.6"
    cache_engine, gpu_connector = adapter.cache_engine, adapter.gpu_connector
    assert list(inspect.signature(gpu_connector.CreateGPUConnector).parameters) == list(
        inspect.signature(adapter.create).parameters
    )
    assert len(inspect.signature(cache_engine.assert_layerwise_gpu_connector).parameters) == 1
    for cls in (adapter.ChunksOnCPU, adapter.LayersOnCPU):
        assert not cls.__abstractmethods__
    # Ours takes effect only where LMCache looks the names up when it calls them.
    factory = importlib.import_module("lmcache.integration.vllm.vllm_service_factory")
    assert not hasattr(factory, "CreateGPUConnector")
    assert "from lmcache.v1.gpu_connector import CreateGPUConnector" in inspect.getsource(factory)
    for method in (cache_engine.LMCacheEngine.store_layer, cache_engine.LMCacheEngine.retrieve_layer):
        assert "assert_layerwise_gpu_connector(self.gpu_connector)" in inspect.getsource(inspect.unwrap(method))


def test_the_adapter_is_in_place_before_lmcache_starts(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((adapter.gpu_connector, "CreateGPUConnector"), (adapter.cache_engine, "assert_layerwise_gpu_connector")):
        monkeypatch.setattr(module, name, getattr(module, name))  # so that it is put back
    seen: list[tuple[Any, Any]] = []

    def start(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append((adapter.gpu_connector.CreateGPUConnector, adapter.cache_engine.assert_layerwise_gpu_connector))

    monkeypatch.setattr(adapter.LMCacheConnectorV1, "__init__", start)
    adapter.LMCacheOnCPU("config", "role", "kv cache")
    assert seen == [(adapter.create, adapter.expect_layers)]
