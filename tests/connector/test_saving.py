"""Saves behind the step: what is stored is what the step computed, and the blocks are free as soon as they can be."""

import inspect
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from working import Wrapped

from harness.connector.saving import Saver
from harness.connector.step import Save
from harness.core.chunks import ChunkKey, Layout, check_header, check_layer
from harness.core.errors import ChunkInvalid, StoreUnavailable
from harness.engines.paged import PagedKV
from harness.stores.base import Buffer, Read, Store, open_store
from harness.testing.engines import within
from harness.testing.late_device import LateDevice
from harness.testing.small_kv import PADDED, WHOLE_PAGES, chunk_key


class Notes(list[Mapping[str, Any]]):
    def keys(self, kind: str) -> list[str]:
        return [str(note["key"]) for note in self if note["kind"] == kind]


class Slow(Wrapped):
    """Writes wait for ``go_on``."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.go_on, self.writing = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.writing.set()
        assert self.go_on.wait(20)
        if self.error is not None:
            raise self.error
        super().write(key, parts)


class Asked(Slow):
    """``exists`` waits for ``go_on`` as well."""

    def exists(self, keys: Sequence[str]) -> int:
        self.writing.set()
        assert self.go_on.wait(20)
        return super().exists(keys)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"file://{tmp_path}/kv") as opened:
        yield opened


def saves(*pairs: tuple[str, tuple[int, int]]) -> list[Save]:
    return [Save("r", chunk_key(name), blocks) for name, blocks in pairs]


def stored(store: Store, cache: PagedKV, key: ChunkKey) -> list[bytes]:
    """The layers of a stored chunk, which match its checksums."""
    layout = Layout(cache.geometry)
    data = bytearray(layout.total_bytes)
    store.read([Read(key, 0, (memoryview(data),))])
    checksums = check_header(layout, key, memoryview(data)[: layout.header_bytes])
    layers = [bytes(data[layout.offset(i) : layout.offset(i) + cache.geometry.layer_bytes]) for i in range(cache.geometry.layers)]
    for number, (layer, checksum) in enumerate(zip(layers, checksums, strict=True)):
        check_layer(key, number, checksum, [layer])
    return layers


@pytest.mark.parametrize("shape", [WHOLE_PAGES, PADDED], ids=["whole pages", "padded"])
@pytest.mark.parametrize("device", ["cpu", "late"])
def test_threads_store_what_the_step_itself_would(store: Store, shape: Any, device: str) -> None:
    straight, notes = Saver(store, shape.build(), 0, 1, Notes().append), Notes()
    cache = shape.build(device)
    behind = Saver(store, cache, 1, 2, notes.append, threads=2)
    both = saves(("a", (3, 1)), ("b", (7, 8)))
    straight.save(both)
    behind.save(both)
    assert behind.settle(20)
    behind.close()
    for save in both:
        assert stored(store, cache, ChunkKey(f"{save.key}-r1of2")) == stored(store, cache, save.key)
    assert sorted(notes.keys("save")) == sorted(f"{save.key}-r1of2" for save in both)


def test_the_step_goes_on_while_the_store_writes(store: Store) -> None:
    slow, notes = Slow(store), Notes()
    cache = WHOLE_PAGES.build()
    saver = Saver(slow, cache, 0, 1, notes.append, threads=1)
    within(lambda: saver.save(saves(("a", (3, 1)), ("b", (7, 8)))))
    assert slow.writing.wait(20)
    before = [layer[3].clone() for layer in cache.layers]
    within(lambda: saver.release([3, 1]))  # they are copied: the store holds nothing up
    for layer in cache.layers:
        layer[3] = 0
    slow.go_on.set()
    assert saver.settle(20)
    saver.close()
    found = stored(store, cache, chunk_key("a"))
    size = cache.geometry.block_bytes
    assert [data[:size] for data in found] == [bytes(block.contiguous().view(torch.uint8).numpy()) for block in before]


def test_a_store_that_takes_long_to_answer_holds_no_block(store: Store) -> None:
    asked = Asked(store)
    saver = Saver(asked, WHOLE_PAGES.build(), 0, 1, Notes().append, threads=1)
    saver.save(saves(("a", (3, 1))))
    assert asked.writing.wait(20)
    within(lambda: saver.release([3, 1]))
    asked.go_on.set()
    assert saver.settle(20)
    saver.close()


def test_what_is_left_at_the_end_is_noted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.connector.saving.CLOSING_S", 0.1)
    slow, notes = Slow(store), Notes()
    saver = Saver(slow, WHOLE_PAGES.build(), 0, 1, notes.append, threads=1)
    saver.save(saves(("a", (3, 1)), ("b", (7, 8)), ("c", (5, 6))))
    assert slow.writing.wait(20)
    ended = threading.Thread(target=saver.close)
    ended.start()
    deadline = time.monotonic() + 20
    while len(notes.keys("save_error")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    slow.go_on.set()
    ended.join(20)
    assert notes.keys("save_error") == [chunk_key("b"), chunk_key("c")]


def test_a_chunk_whose_blocks_are_needed_before_its_copy_is_not_saved(store: Store) -> None:
    """The store is slower than the requests: a miss later, no wait now."""
    slow, notes = Slow(store), Notes()
    saver = Saver(slow, WHOLE_PAGES.build(), 0, 1, notes.append, threads=1)
    saver.save(saves(("a", (3, 1)), ("b", (7, 8)), ("c", (9, 10))))
    assert slow.writing.wait(20)
    within(lambda: saver.release([8, 20]))
    slow.go_on.set()
    assert saver.settle(20)
    saver.close()
    assert sorted(store.keys()) == sorted([chunk_key("a"), chunk_key("c")])
    assert notes.keys("save_error") == [chunk_key("b")]
    assert "blocks were needed before they could be copied" in notes[0]["error"]


@pytest.mark.parametrize("error", [StoreUnavailable("no space left"), RuntimeError("a bug of the store")])
def test_a_save_that_fails_is_noted_and_the_next_one_works(store: Store, error: Exception) -> None:
    slow, notes = Slow(store), Notes()
    slow.go_on.set()
    saver = Saver(slow, WHOLE_PAGES.build(), 0, 1, notes.append, threads=1)
    slow.error = error
    saver.save(saves(("a", (3, 1))))
    assert saver.settle(20)
    slow.error = None
    saver.save(saves(("b", (3, 1))))
    assert saver.settle(20)
    saver.close()
    assert (notes.keys("save_error"), notes.keys("save")) == ([chunk_key("a")], [chunk_key("b")])


def test_closing_saves_what_is_left_but_does_not_wait_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = Saver(store, WHOLE_PAGES.build(), 0, 1, Notes().append, threads=1)
    saver.save(saves(("a", (3, 1)), ("b", (7, 8))))
    saver.close()
    saver.close()
    assert len(list(store.keys())) == 2
    slow = Slow(store)
    stuck = Saver(slow, WHOLE_PAGES.build(), 0, 1, Notes().append, threads=1)
    stuck.save(saves(("c", (3, 1))))
    monkeypatch.setattr("harness.connector.saving.CLOSING_S", 0.1)
    monkeypatch.setattr("harness.engines.readers.CLOSING_S", 0.1)
    begin = time.monotonic()
    within(stuck.close)
    assert time.monotonic() - begin < 10
    slow.go_on.set()


# -- order, on a device that is as late as it may be ---------------------------------------------------


def run(store: Store, seed: int) -> list[str]:
    """Steps that compute chunks, save them and then reuse blocks; what is stored wrongly."""
    random, device, notes = Random(seed), LateDevice(seed), Notes()
    plain = WHOLE_PAGES.build()
    cache = PagedKV(plain.layers, 2, 16, port=device)
    saver = Saver(store, cache, 0, 1, notes.append, threads=random.randint(1, 2))
    wanted: dict[ChunkKey, int] = {}
    try:
        for step in range(1, 7):
            blocks = random.sample(range(12), 6)
            saver.release(blocks)
            for rows in cache.rows.layers:
                device.work(device.current(), partial(rows.index_fill_, 0, torch.tensor(blocks), step))
            if random.random() < 0.2:
                device.settle()
            keys = [chunk_key(f"{uuid4()}, chunk {index}") for index in range(3)]
            wanted |= dict.fromkeys(keys, step)
            saver.save([Save("r", key, (blocks[2 * i], blocks[2 * i + 1])) for i, key in enumerate(keys)])
        assert saver.settle(20)
    finally:
        saver.close()
    assert sorted([*notes.keys("save"), *notes.keys("save_error")]) == sorted(wanted)
    wrong = []
    for key in map(ChunkKey, notes.keys("save")):
        if any(set(layer) != {wanted[key]} for layer in stored(store, cache, key)):
            wrong.append(f"chunk {key} of step {wanted[key]}")
    return wrong


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_what_is_stored_is_what_its_step_computed(store: Store, seed: int) -> None:
    assert run(store, seed) == []


@dataclass(frozen=True)
class Mutation:
    method: str
    old: str
    new: str


MUTATIONS = {
    "the copy does not wait for the forward": Mutation("_write_copied", "port.wait(self._stream, job.forward)", "pass"),
    "the write does not wait for the copy": Mutation("_write_copied", "port.record(self._stream).synchronize()", "pass"),
    "the event comes before the step's work": Mutation(
        "save", "forward = self._cache.port.record(self._cache.port.current())", "forward = type(self)._past"
    ),
    "new blocks are not waited for": Mutation("release", "job.copied.wait()", "pass"),
    "saves that have not begun are kept": Mutation("release", "if not job.begun]", "if False]"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_found(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation = MUTATIONS[name]
    device = LateDevice()
    past = device.record(device.current())
    past.synchronize()
    monkeypatch.setattr(Saver, "_past", past, raising=False)
    function = getattr(Saver, mutation.method)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(mutation.old) == 1, f"{mutation.method} has changed; change its mutation"
    scope: dict[str, Any] = {}
    exec(source.replace(mutation.old, mutation.new), function.__globals__, scope)
    monkeypatch.setattr(Saver, mutation.method, scope[mutation.method])
    found: Callable[[int], bool] = lambda seed: _is_found(store, seed)  # noqa: E731
    assert any(found(seed) for seed in range(300))


def _is_found(store: Store, seed: int) -> bool:
    try:
        return bool(run(store, seed))
    except (AssertionError, ChunkInvalid):
        return True
