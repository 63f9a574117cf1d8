"""The proof proven: whatever a store or an engine puts into the cache instead of the right KV is caught."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from working import LOADING, Bench, Wrapped, bench, load

from harness.connector.settings import Arm
from harness.core.chunks import ChunkKey, LoadRequest
from harness.engines.chunkwise import Chunkwise, ChunkwiseOptions
from harness.experiment.rows import load_reason
from harness.stores.base import Read, Store, open_store
from harness.testing.small_kv import chunk_key

KEYS = [chunk_key(name) for name in "abc"]
OTHERS = [chunk_key(name) for name in "xyz"]
BLOCKS = tuple(range(16, 22))
HIT = 3 * 32


class Lying(Wrapped):
    """Says the truth in the headers, and ``_body`` behind them."""

    header_bytes = 0
    lies = False

    def read(self, reads: Sequence[Read]) -> None:
        super().read(reads)
        if self.lies:
            for item in reads:
                self._spoil(item)

    def _spoil(self, item: Read) -> None:
        position, body = item.offset, self._body(item)
        for part in item.out:
            first = max(self.header_bytes - position, 0)
            if first < part.nbytes:
                at = position + first - item.offset
                part[first:] = body[at : at + part.nbytes - first]
            position += part.nbytes

    def _body(self, item: Read) -> bytes:
        raise NotImplementedError


class Zeros(Lying):
    def _body(self, item: Read) -> bytes:
        return bytes(item.length)


class OtherPrompt(Lying):
    """Another prompt's KV."""

    def _body(self, item: Read) -> bytes:
        out = bytearray(item.length)
        self.inner.read([Read(OTHERS[KEYS.index(ChunkKey(item.key))], item.offset, (memoryview(out),))])
        return bytes(out)


class OneBit(Lying):
    """The right KV but for the last bit of the last chunk."""

    def _body(self, item: Read) -> bytes:
        out = bytearray(item.length)
        self.inner.read([Read(item.key, item.offset, (memoryview(out),))])
        if item.key == KEYS[-1] and item.offset + item.length == self.inner.size(item.key):
            out[-1] ^= 1
        return bytes(out)


class Idle(Chunkwise):
    """Says that it has loaded."""

    name = "idle"

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        pass


class Crossed(Chunkwise):
    """Puts chunks into one another's blocks."""

    name = "crossed"

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        super().begin_load([LoadRequest(item.request, item.chunks, item.blocks[::-1]) for item in batch])


class Shortened(Chunkwise):
    """Leaves the last chunk out."""

    name = "shortened"

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        super().begin_load([LoadRequest(item.request, item.chunks[:-1], item.blocks[:-2]) for item in batch])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "trace").mkdir()
    with open_store(f"file://{tmp_path / 'kv'}") as opened:
        yield opened


def fill(one: Bench) -> None:
    """Save two prompts of three chunks, and put something else into the blocks that will be loaded."""
    one.save(*((key, (2 * i, 2 * i + 1)) for i, key in enumerate([*KEYS, *OTHERS])))


def reason(one: Bench, arm: str, keys: Sequence[ChunkKey] = KEYS) -> str:
    """What the proof says of a load of ``KEYS``; ``keys`` are those of the hit."""
    one.step([load(arm, "r", KEYS, BLOCKS, "x")])
    one.step(prove=["r"])
    return load_reason(one.trace.loads("x"), HIT, True, one.trace.saved, keys)


@pytest.mark.parametrize("arm", LOADING)
def test_an_honest_load_is_proven(store: Store, tmp_path: Path, arm: str) -> None:
    one = bench(store, tmp_path / "trace")
    fill(one)
    assert reason(one, arm) == ""
    one.worker.close()


@pytest.mark.parametrize("lie", [Zeros, OtherPrompt, OneBit])
@pytest.mark.parametrize("arm", LOADING)
def test_a_store_that_lies_is_caught(store: Store, tmp_path: Path, arm: str, lie: type[Lying]) -> None:
    lying = lie(store)
    one = bench(lying, tmp_path / "trace")
    lying.header_bytes = one.layout.header_bytes
    fill(one)
    lying.lies = True
    assert reason(one, arm).startswith("the KV in the paged cache is not what was saved: layer ")
    one.worker.close()


@pytest.mark.parametrize("engine", [Idle, Crossed, Shortened])
def test_an_engine_that_lies_is_caught(store: Store, tmp_path: Path, engine: type[Chunkwise]) -> None:
    one = bench(store, tmp_path / "trace", more=[Arm(engine.name, engine, ChunkwiseOptions())])
    fill(one)
    assert reason(one, engine.name).startswith("the KV in the paged cache is not what was saved: layer ")
    one.worker.close()


def test_a_connector_that_asks_for_too_little_or_for_another_prompt_is_caught(store: Store, tmp_path: Path) -> None:
    """All bytes are right then, for the keys that were asked for."""
    one = bench(store, tmp_path / "trace")
    fill(one)
    assert reason(one, LOADING[0], [*KEYS, OTHERS[0]]) == "3 chunks were loaded and sampled, not the 4 of the hit"
    assert reason(one, LOADING[0], OTHERS) != ""
    one.worker.close()
