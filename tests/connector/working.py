"""A worker's side over small CPU tensors and a file store, with what its trace says."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.connector.settings import Arm, parse_arm
from harness.connector.step import Load, Save, Step
from harness.connector.worker_side import WorkerSide
from harness.core.chunks import ChunkKey, Layout, LoadRequest
from harness.core.spans import SpanLog
from harness.engines.paged import PagedKV
from harness.experiment.span_log import SpanLogReader
from harness.stores.base import Buffer, Read, Store, StoreOptions, open_store
from harness.testing.small_kv import WHOLE_PAGES, Shape, chunk_key

LOADING = (
    "chunkwise:pool=0",
    "chunkwise:pool=2,batch=2",
    "chunkwise:staged=1",
    "layerwise:depth=2",
    "layerwise:depth=1,groups=4,readers=2,batch=2",
    "layerwise:depth=3,loops=1,readers=4",
    "deferred:release=2",
)


class Wrapped(Store):
    """A store in front of another one; subclasses change what they want to go wrong."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.url = inner.url
        self.options = StoreOptions()

    def exists(self, keys: Sequence[str]) -> int:
        return self.inner.exists(keys)

    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read(reads)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.inner.write(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def keys(self) -> Iterator[str]:
        return self.inner.keys()


@dataclass
class Bench:
    """A worker with its cache, its store and its trace."""

    worker: WorkerSide
    cache: PagedKV
    store: Store
    trace: SpanLogReader

    def contents(self, blocks: Sequence[int]) -> list[bytes]:
        """What stands in these blocks, layer by layer."""
        return [self.cache.gather(layer, blocks) for layer in range(self.cache.geometry.layers)]

    def step(self, loads: Sequence[Load] = (), saves: Sequence[Save] = (), **more: Any) -> set[int]:
        """One forward step; returns the blocks that failed."""
        step = Step(loads=list(loads), saves=list(saves), **more)
        self.worker.before(step)
        self.worker.start_load(step)
        for layer in range(self.cache.geometry.layers):
            self.worker.wait_layer(layer)
        self.worker.finish(step)
        self.trace.poll()
        return self.worker.take_invalid()

    def save(self, *pairs: tuple[ChunkKey, Sequence[int]]) -> None:
        """A step that saves chunks from blocks."""
        self.step(saves=[Save("saver", key, tuple(blocks)) for key, blocks in pairs])

    @property
    def layout(self) -> Layout:
        return Layout(self.cache.geometry)


def bench(
    store: Store,
    folder: Path | None,
    shape: Shape = WHOLE_PAGES,
    more: Sequence[Arm] = (),
    rank: int = 0,
    world: int = 1,
    on_any_rank: Callable[[bool], bool] = bool,
    save_threads: int = 0,
) -> Bench:
    """A worker over ``store`` with all loading arms and ``more``; without a folder it writes no trace."""
    cache = shape.build()
    trace = SpanLog(str(folder) if folder else "", f"worker-{rank}")
    arms = {text: parse_arm(text) for text in [*LOADING, "floor", "recompute"]} | {arm.name: arm for arm in more}
    worker = WorkerSide(arms, store, cache, trace, rank, world, on_any_rank, save_threads)
    return Bench(worker, cache, store, SpanLogReader(folder or Path("nowhere")))


def load(arm: str, request: str, keys: Sequence[ChunkKey], blocks: Sequence[int], label: str = "") -> Load:
    return Load(arm, LoadRequest(request, tuple(keys), tuple(blocks)), label)


A, B, C, D = (chunk_key(name) for name in "abcd")
Maker = Callable[..., Bench]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"file://{tmp_path / 'kv'}") as opened:
        yield opened


@pytest.fixture
def make(store: Store, tmp_path: Path) -> Iterator[Maker]:
    made: list[Bench] = []
    (tmp_path / "trace").mkdir()

    def maker(over: Store | None = None, *, traced: bool = True, **more: Any) -> Bench:
        made.append(bench(over or store, tmp_path / "trace" if traced else None, **more))
        return made[-1]

    yield maker
    for one in made:
        one.worker.close()


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted((tmp_path / "trace").glob("*.jsonl")) for line in path.read_text().splitlines()]
