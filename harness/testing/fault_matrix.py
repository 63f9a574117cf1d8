"""Engines x stores x faults as a matrix of cells, for pytest.

    class TestMine(FaultTests):
        @pytest.fixture
        def target(self, tmp_path: Path) -> Target:
            return Target("mine", f"mine://{tmp_path}/kv")

The engines are all those that are registered; ``engines = ("mine:readers=3",)`` picks. Give a ``FaultyProxy`` in front of the
store's server, and the faults of networks are tried as well. A cell writes four chunks, breaks something, and has an engine
with ``verify=1`` load all of them by a deadline. Whatever is broken, a chunk is served right, missed (the store raised an
error of the tree, in time) or refused (the engine's checks found it out): never wrong bytes, never a foreign exception, never
a load beyond its deadline, never a write after it; and once things are well again, all are served right.

Each store meets each fault by two of the engines, once with a chunk per object and once with a layer, and by all engines with
``TTFT_FAULTS=all`` in the environment, as ``make faults`` sets it.
"""

import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import ClassVar, NamedTuple

import pytest

from harness.core.chunks import Layout
from harness.core.errors import StoreError
from harness.stores.base import GRACE_S, Store, open_store
from harness.stores.layered import Layered
from harness.testing.engine_loads import (
    GEOMETRY,
    KEYS,
    PATIENCE_S,
    SHORT_S,
    EngineLoads,
    Outcome,
    engine_specs,
    verifies,
    whole_objects,
)
from harness.testing.fault_tables import FOUND, Found, tables
from harness.testing.faults import FAULTS, flip, spoiled
from harness.testing.small_kv import chunk_key, chunk_object
from harness.testing.surroundings import AROUND, Target, in_a_fork, killed_writer

__all__ = ["FOUND", "FaultTests", "Target", "tables"]

ALL = "TTFT_FAULTS"
BROKEN = KEYS[1]
RIGHT: Mapping[str, Outcome] = dict.fromkeys(KEYS, "right")
SLACK_S = 1.0
"""Seconds more than GRACE_S that a busy machine may take."""

LAYERS = Layout(GEOMETRY)
OBJECTS: Mapping[str, Callable[[], bytes | None]] = {
    **{name: partial(spoiled, GEOMETRY, BROKEN, name) for name in FAULTS},
    "a bit of the first layer": partial(flip(LAYERS.offset(0) + 5), GEOMETRY, BROKEN),
    "a bit of the last layer": partial(flip(LAYERS.offset(GEOMETRY.layers - 1) + 5), GEOMETRY, BROKEN),
    "longer": lambda: chunk_object(GEOMETRY, BROKEN) + b"more",
}
"""What stands in place of a chunk; None for nothing."""


class Cell(NamedTuple):
    """One engine, and whether an object is a chunk or a layer."""

    engine: str
    layout: str
    fault: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, self))


def _cells(store: str, faults: Sequence[str], engines: Sequence[str], few: bool = False) -> list[Cell]:
    """All, or of each fault those whose turn it is with this store. ``few``: one cell a fault, whatever is asked for."""
    cells = []
    for number, fault in enumerate(faults, zlib.crc32(store.encode())):
        for position, layout in enumerate(("chunk", "layer")):
            if few and position != number % 2:
                continue
            turn = [engines[(2 * number + position) % len(engines)]]
            chosen = engines if os.environ.get(ALL) == "all" and not few else turn
            cells += [Cell(engine, layout, fault) for engine in chosen]
    return cells


class FaultTests:
    """Subclass it with a fixture ``target``."""

    engines: ClassVar[Sequence[str]] = ()
    """As users write them; empty: all that are registered."""

    @pytest.fixture
    def target(self) -> Target:
        """The store. Override it."""
        raise NotImplementedError("a subclass of FaultTests needs a fixture 'target'")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """The cells of each test."""
        if "cell" in metafunc.fixturenames:
            kinds: Mapping[str, Sequence[str]] = {"test_object": list(OBJECTS), "test_surroundings": list(AROUND)}
            faults = kinds.get(metafunc.function.__name__, [metafunc.function.__name__.removeprefix("test_")])
            few = metafunc.function.__name__ in ("test_killed_writer", "test_killed_server")
            cells = _cells(type(self).__name__, faults, self.engines or engine_specs(), few)
            metafunc.parametrize("cell", cells, ids=str)

    @pytest.fixture
    def store(self, target: Target, cell: Cell) -> Iterator[Store]:
        """With four whole chunks."""
        if cell.fault in target.cannot or (cell.fault in AROUND and not AROUND[cell.fault].possible(target)):
            pytest.skip("such a store can't have this fault")
        if not verifies(cell.engine) and cell.fault.startswith("a bit"):
            pytest.skip("this engine has no option 'verify'")
        with ExitStack() as stack:
            opened = target.opened or stack.enter_context(open_store(target.url))
            store = Layered(opened, GEOMETRY) if cell.layout == "layer" else opened
            store.write_many(whole_objects())
            stack.callback(store.delete, KEYS)
            yield store

    @pytest.fixture
    def loads(self, store: Store, cell: Cell) -> Iterator[EngineLoads]:
        """By the engine of the cell."""
        with closing(EngineLoads(cell.engine, store)) as loads:
            yield loads

    def test_object(self, target: Target, cell: Cell, store: Store, loads: EngineLoads) -> None:
        """The others of the batch are served right."""
        data = OBJECTS[cell.fault]()
        store.delete([BROKEN])
        if data is not None:
            store.write(BROKEN, [data])
        found = loads.load()
        _note(target, cell, found[BROKEN])
        assert found == {**RIGHT, BROKEN: found[BROKEN]}
        assert found[BROKEN] == "right" if cell.fault == "longer" else found[BROKEN] in ("missed", "refused")
        store.delete([BROKEN])
        store.write(BROKEN, [chunk_object(GEOMETRY, BROKEN)])
        assert loads.load() == RIGHT

    def test_surroundings(self, target: Target, cell: Cell, loads: EngineLoads) -> None:
        """All may be missed. It holds for the second load as for the first, whatever the first one left."""
        around = AROUND[cell.fault]
        if cell.fault != "no thread":  # where a store has none yet
            assert loads.load() == RIGHT
        for _ in range(2):
            start = time.monotonic()
            with around.made(target):
                found = loads.load(short=not around.harmless)
            assert around.harmless or time.monotonic() - start < SHORT_S + GRACE_S + SLACK_S
            for key in KEYS:
                _note(target, cell, found[key])
                assert found[key] == "right" or (found[key] == "missed" and not around.harmless)
        _until_right(loads)

    def test_killed_server(self, target: Target, cell: Cell, store: Store, loads: EngineLoads) -> None:
        """Nothing can be had; when it runs again, what it still has is served, and what is written anew."""
        if target.killed is None:
            pytest.skip("this store has no server that the test could kill")
        with target.killed():
            start = time.monotonic()
            found = loads.load(short=True)
            assert time.monotonic() - start < SHORT_S + GRACE_S + SLACK_S
        _note(target, cell._replace(fault="server: killed"), found[BROKEN])
        assert set(found.values()) == {"missed"}
        found = loads.load(short=True)
        _note(target, cell._replace(fault="server: restarted"), found[BROKEN])
        assert set(found.values()) <= {"right", "missed"}
        _patiently(lambda: store.write_many(whole_objects()))
        _until_right(loads)

    def test_full(self, target: Target, cell: Cell, store: Store, loads: EngineLoads) -> None:
        """A write says so, and what is there is served."""
        if target.full is None:
            pytest.skip("nothing here fills this store")
        key = chunk_key("one more")
        with target.full():
            with pytest.raises(StoreError):
                store.write(key, [chunk_object(GEOMETRY, key)])
            found = loads.load()
        _note(target, cell, found[BROKEN])
        assert found == RIGHT
        assert store.exists([key]) == 0
        store.write(key, [chunk_object(GEOMETRY, key)])
        assert store.exists([key]) == 1
        store.delete([key])

    def test_deadline_passed(self, target: Target, cell: Cell, loads: EngineLoads) -> None:
        """Missed at once."""
        found = loads.load(passed=True)
        _note(target, cell, found[BROKEN])
        assert set(found.values()) == {"missed"}

    def test_two_writers(self, target: Target, cell: Cell, store: Store, loads: EngineLoads) -> None:
        """Both publish the same chunk again and again; a reader sees it whole. Where it is a layer per object as well."""
        over = threading.Event()

        def write() -> None:
            while not over.is_set():
                with suppress(StoreError):  # a server may refuse one of two writes at a time; what is there stays whole
                    store.write(BROKEN, [chunk_object(GEOMETRY, BROKEN)])

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(5):
                found = loads.load()
                _note(target, cell, found[BROKEN])
                refused = target.proxy is not None and found[BROKEN] == "missed"  # a server may refuse to read meanwhile, too
                assert found == RIGHT or (refused and found == {**RIGHT, BROKEN: "missed"}), loads.why
        finally:
            over.set()
            for writer in writers:
                writer.join()

    def test_killed_writer(self, target: Target, cell: Cell, store: Store, loads: EngineLoads) -> None:
        """The chunk is there as a whole or not at all."""
        if not target.spawns:
            pytest.skip("another process opens another store")
        geometry = GEOMETRY if cell.layout == "layer" else None
        killed_writer(target.url, BROKEN, chunk_object(GEOMETRY, BROKEN), geometry)
        found = loads.load()
        _note(target, cell, found[BROKEN])
        assert found in (RIGHT, {**RIGHT, BROKEN: "missed"})
        _patiently(lambda: store.write(BROKEN, [chunk_object(GEOMETRY, BROKEN)]))
        assert loads.load() == RIGHT

    def test_fork(self, target: Target) -> None:
        """Served right or refused; no engine takes part, as its threads don't survive a fork."""
        if not target.spawns:
            pytest.skip("another process opens another store")
        found = in_a_fork(target.url)
        assert len(found) == 3 and set(found) <= {"right", "refused"}, found
        outcome: Outcome = "refused" if "refused" in found else "right"
        _note(target, Cell("none", "chunk", "fork"), outcome)


def _patiently(write: Callable[[], None]) -> None:
    """``write``, which a server may refuse while it comes back, or while it still counts on a writer that is dead."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            write()
            return
        except StoreError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


def _until_right(loads: EngineLoads) -> None:
    until = time.monotonic() + PATIENCE_S  # a client may look for a lost server only now and then
    while (found := loads.load()) != RIGHT and time.monotonic() < until:
        time.sleep(0.1)
    assert found == RIGHT


def _note(target: Target, cell: Cell, outcome: Outcome) -> None:
    FOUND[Found(cell.engine, target.name, cell.fault.replace("_", " "), outcome)] += 1
