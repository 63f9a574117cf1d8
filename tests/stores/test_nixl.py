"""``nixl://``: the conformance suite with NIXL's POSIX plugin, and what can be wrong with it."""

import asyncio
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from nixl_running import nixl

from harness.connector.settings import parse_arm
from harness.core.errors import ChunkMissing, ChunkTruncated, DeadlineMissed, ReadFailures, SetupError, StoreUnavailable
from harness.core.spans import Recorder
from harness.stores import open_store
from harness.stores.base import GRACE_S, Read
from harness.stores.files import directory
from harness.stores.nixl import agents
from harness.stores.nixl.agents import Agent, Place
from harness.testing.small_kv import WHOLE_PAGES, SmallKV
from harness.testing.stores import StoreTests, fetch, pattern

__all__ = ["nixl"]


@pytest.mark.usefixtures("nixl")
class TestNixl(StoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"nixl://{tmp_path}/with%20space"


@pytest.fixture
def root(tmp_path: Path, nixl: None) -> Path:
    """Where a file store keeps three objects of 100,000 bytes."""
    with open_store(f"file://{tmp_path}/kv") as store:
        for seed in range(3):
            store.write(f"key-{seed}", [pattern(100_000, seed)])
    return tmp_path / "kv"


def reads_of(*keys: str, length: int = 100_000) -> tuple[list[bytearray], list[Read]]:
    out = [bytearray(length) for _ in keys]
    return out, [Read(key, 0, (memoryview(part),)) for key, part in zip(keys, out, strict=True)]


def test_eight_threads_read_at_once(root: Path) -> None:
    """On one agent they damage its heap, so this ends the process where they share one."""

    def read(_: int) -> bool:
        out, reads = reads_of("key-0", "key-1", "key-2")
        store.read(reads)
        return out == [pattern(100_000, seed) for seed in range(3)]

    with open_store(f"nixl://{root}") as store, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))


def test_a_large_batch_goes_in_several_transfers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transfers: list[int] = []
    real = Agent.read

    def counted(self: Agent, local: Sequence[Place], remote: Sequence[Place]) -> None:
        transfers.append(len(local))
        real(self, local, remote)

    monkeypatch.setattr(Agent, "read", counted)
    with open_store(f"nixl://{root}") as store:
        out, reads = reads_of(*["key-1"] * 150, length=50)
        store.read(reads)
        asyncio.run(store.aread(reads))
    assert transfers == [64, 64, 22] * 2
    assert out == [pattern(100_000, 1)[:50]] * 150


def test_one_bad_read_leaves_the_others_alone(root: Path) -> None:
    with open_store(f"nixl://{root}") as store:
        out, reads = reads_of("key-0", "absent", "key-2")
        reads[2] = Read("key-2", 1, reads[2].out)
        reads.append(Read("key-1", 0, reads_of("key-1")[1][0].out, time.monotonic() - 1))
        with pytest.raises(ReadFailures) as caught:
            store.read(reads)
    kinds = {position: type(error) for position, error in caught.value.failures.items()}
    assert kinds == {1: ChunkMissing, 2: ChunkTruncated, 3: DeadlineMissed}
    assert out[0] == pattern(100_000, 0)


def test_a_transfer_that_fails_is_told_apart_by_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error of the plugin's own: a directory opens, has a length, and cannot be read."""
    with open_store(f"nixl://{root}") as store:
        real: Any = store._open  # type: ignore[attr-defined]
        monkeypatch.setattr(store, "_open", lambda key: os.open(root, os.O_RDONLY) if key == "key-1" else real(key))
        out, reads = reads_of("key-0", "key-1", "key-2", length=10)
        agent = weakref.ref(store._agents._idle[0]._agent)  # type: ignore[attr-defined]
        gc.disable()
        try:
            with pytest.raises(ReadFailures) as caught:
                store.read(reads)
            assert agent() is None  # its queue has waited for what else was under way, which must not be written later
        finally:
            gc.enable()
        assert {position: type(error) for position, error in caught.value.failures.items()} == {1: StoreUnavailable}
        said = str(caught.value.failures[1])
        assert said.startswith(f"NIXL cannot read the object at {root}/ke/key-1.kv: NIXL_ERR_BACKEND; see the disk's log")
        assert [out[0], out[2]] == [pattern(100_000, seed)[:10] for seed in (0, 2)]
        monkeypatch.undo()
        assert fetch(store, "key-1", 0, 10) == [pattern(100_000, 1)[:10]]


@pytest.mark.usefixtures("nixl")
@pytest.mark.parametrize("arm", ["chunkwise:pool=4,batch=2", "layerwise:depth=3,readers=2,batch=4,verify=1", "layerwise:loops=1"])
def test_engines_load_into_paged_blocks(tmp_path: Path, arm: str) -> None:
    parsed = parse_arm(arm)
    with open_store(f"nixl://{tmp_path}/kv") as store:
        kv = SmallKV(WHOLE_PAGES.build(), store)
        with closing(parsed.engine(kv.store, kv.cache, parsed.options, Recorder())) as engine:
            request = kv.request("a", 4, (31, 0, 7, 6, 20, 3, 5, 1))
            assert kv.step(engine, [request]) == frozenset()
            store.delete(list(store.keys()))
            assert kv.step(engine, [request], lost=request.chunks) == frozenset((31, 0, 7, 6, 20, 3, 5, 1))


def test_a_file_system_that_hangs_ends_at_the_deadline_and_writes_nothing_later(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "remote_file_system", lambda path: "nfs4")
    go_on, done = threading.Event(), threading.Event()
    real = Agent.read

    def hanging(self: Agent, local: Sequence[Place], remote: Sequence[Place]) -> None:
        go_on.wait(20)
        real(self, local, remote)
        done.set()

    monkeypatch.setattr(Agent, "read", hanging)
    with open_store(f"nixl://{root}") as store:
        out = bytearray(100)
        start = time.monotonic()
        with pytest.raises(ReadFailures) as caught:
            store.read([Read("key-0", 0, (memoryview(out),), start + 0.2)])
        assert time.monotonic() - start < 0.2 + GRACE_S
        assert isinstance(caught.value.failures[0], DeadlineMissed)
        go_on.set()
        assert done.wait(20)
    assert out == bytes(100)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in agents._MODULES:
        monkeypatch.setitem(sys.modules, f"{module}._api", None)
    with pytest.raises(SetupError, match=r"need the package nixl; install it: pip install 'ttft\[nixl\]'"):
        open_store(f"nixl://{tmp_path}/kv")
    assert not (tmp_path / "kv").exists()


@pytest.mark.usefixtures("nixl")
@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("NONE", "NIXL has no plugin 'NONE' here; write plugin= and one of .*POSIX"),
        ("UCX", "NIXL's plugin UCX does not read files into host memory; write plugin=POSIX"),
    ],
)
def test_a_plugin_that_will_not_do(tmp_path: Path, plugin: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        open_store(f"nixl://{tmp_path}/kv?plugin={plugin}")
