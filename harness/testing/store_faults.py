"""What a store does when something is wrong, as a matrix of cells, for pytest.

    class TestMine(StoreFaultTests):
        @pytest.fixture
        def target(self, tmp_path: Path) -> Target:
            return Target("mine", f"mine://{tmp_path}/kv")

Give a ``FaultyProxy`` in front of the store's server, and the faults of networks are tried as well. A cell writes four chunks,
breaks something, and reads all of them in one call with a deadline, as an engine with ``verify=1`` does. Whatever is broken, a
chunk is served right, missed (an error of the tree, in time) or refused (its checks say what is wrong): never wrong bytes,
never a foreign exception, never a read beyond its deadline; and once it is whole again, all are served right.
"""

import asyncio
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pytest

from harness.core.chunks import ChunkKey, Layout, check_header, check_layer
from harness.core.errors import ReadFailures, SetupError, StoreError
from harness.stores.base import GRACE_S, Read, Store, open_store
from harness.stores.layered import Layered
from harness.testing.faults import FAULTS, flip, spoiled
from harness.testing.faulty_proxy import THREADS, Behaviour, FaultyProxy
from harness.testing.small_kv import PADDED, chunk_key, chunk_object

Outcome = Literal["right", "missed", "refused", "wrong"]

OUTCOMES: dict[tuple[str, str], Counter[Outcome]] = {}
"""Of the broken chunks of all cells so far, by store and fault."""

GEOMETRY = PADDED.build().geometry
KEYS = tuple(chunk_key(f"fault {number}") for number in range(4))
BROKEN = KEYS[1]
SERVERS: tuple[Behaviour, ...] = ("slow", "never", "trickle", "reset", "refuse")
PATIENCE_S, SHORT_S = 10.0, 0.4
SLACK_S = 1.0
"""Seconds more than GRACE_S that a busy machine may take."""


@dataclass(frozen=True)
class Target:
    """An empty store, and how to make its server fail. ``silence`` stops it from answering meanwhile."""

    name: str
    url: str
    proxy: FaultyProxy | None = None
    silence: Callable[[], AbstractContextManager[object]] | None = None


@contextmanager
def _network(target: Target, behaviour: Behaviour) -> Iterator[None]:
    if target.proxy is None:
        assert target.silence is not None
        with target.silence():
            yield
        return
    target.proxy.behaviour = behaviour
    try:
        yield
    finally:
        target.proxy.behaviour = "pass"


@contextmanager
def _no_descriptors(_: Target) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))  # as many as are open
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def _no_threads(_: Target) -> Iterator[None]:
    def none_left(thread: threading.Thread) -> None:
        if thread.name != THREADS:  # the proxy's are not the store's
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    threading.Thread.start = none_left  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]


AROUND: Mapping[str, Callable[[Target], AbstractContextManager[None]]] = {
    **{f"server: {name}": partial(_network, behaviour=name) for name in SERVERS},
    "no descriptor": _no_descriptors,
    "no thread": _no_threads,
}
"""What is wrong around the store while it is read."""


def _longer() -> bytes:
    return chunk_object(GEOMETRY, BROKEN) + b"more"


OBJECTS: Mapping[str, Callable[[], bytes | None]] = {
    **{name: partial(spoiled, GEOMETRY, BROKEN, name) for name in FAULTS},
    "a bit of the first layer": partial(flip(Layout(GEOMETRY).offset(0) + 5), GEOMETRY, BROKEN),
    "a bit of the last layer": partial(flip(Layout(GEOMETRY).offset(GEOMETRY.layers - 1) + 5), GEOMETRY, BROKEN),
    "longer": _longer,
}
"""What stands in place of a chunk; None for nothing."""


class Loader:
    """Loads the chunks as an engine does. Its event loop is there before anything breaks."""

    def __init__(self, store: Store, call: str) -> None:
        self._store = store
        self._runner = asyncio.Runner() if call == "aread" else None
        if self._runner is not None:
            self._runner.get_loop()

    def load(self, seconds: float) -> dict[ChunkKey, Outcome]:
        """Read all in one batch with a deadline in ``seconds``, and check them. Raises what is no error of the tree."""
        layout = Layout(GEOMETRY)
        out = [bytearray(layout.total_bytes) for _ in KEYS]
        deadline = time.monotonic() + seconds
        reads = [Read(key, 0, (memoryview(to),), deadline) for key, to in zip(KEYS, out, strict=True)]
        failed: Mapping[int, Exception] = {}
        try:
            if self._runner is None:
                self._store.read(reads)
            else:
                self._runner.run(self._store.aread(reads))
        except ReadFailures as error:
            failed = error.failures
        except (StoreError, SetupError) as error:
            failed = dict.fromkeys(range(len(KEYS)), error)
        assert all("\n" not in str(error) for error in failed.values())
        judged = {key: _judged(layout, key, bytes(to)) for key, to in zip(KEYS, out, strict=True)}
        return judged | {KEYS[place]: "missed" for place in failed}

    def close(self) -> None:
        """End the loop."""
        if self._runner is not None:
            self._runner.close()


class StoreFaultTests:
    """Subclass it with a fixture ``target``."""

    @pytest.fixture
    def target(self) -> Target:
        """The store. Override it."""
        raise NotImplementedError("a subclass of StoreFaultTests needs a fixture 'target'")

    @pytest.fixture(params=["chunk", "layer"])
    def store(self, target: Target, request: pytest.FixtureRequest) -> Iterator[Store]:
        """With four whole chunks, a chunk or a layer per object."""
        fault = str(request.node.callspec.params.get("fault", ""))
        if fault.startswith("server: ") and target.proxy is None and not (fault == "server: never" and target.silence):
            pytest.skip("no proxy stands before this store")
        with ExitStack() as stack:
            opened = stack.enter_context(open_store(target.url))
            store = Layered(opened, GEOMETRY) if request.param == "layer" else opened
            store.write_many((key, [chunk_object(GEOMETRY, key)]) for key in KEYS)
            stack.callback(store.delete, KEYS)
            yield store

    @pytest.fixture(params=["read", "aread"])
    def loader(self, store: Store, request: pytest.FixtureRequest) -> Iterator[Loader]:
        """By either call."""
        with closing(Loader(store, request.param)) as loader:
            yield loader

    @pytest.mark.parametrize("fault", OBJECTS)
    def test_object(self, target: Target, store: Store, fault: str, loader: Loader) -> None:
        """The others of the batch are served right."""
        data = OBJECTS[fault]()
        store.delete([BROKEN])
        if data == b"" and target.name == "mooncake":
            pytest.skip("Mooncake has no objects without bytes")
        if data is not None:
            store.write(BROKEN, [data])
        found = loader.load(PATIENCE_S)
        note(target.name, fault, found[BROKEN])
        assert found == dict.fromkeys(KEYS, "right") | {BROKEN: found[BROKEN]}
        assert found[BROKEN] == "right" if fault == "longer" else found[BROKEN] in ("missed", "refused")
        store.delete([BROKEN])
        store.write(BROKEN, [chunk_object(GEOMETRY, BROKEN)])
        assert loader.load(PATIENCE_S) == dict.fromkeys(KEYS, "right")

    @pytest.mark.parametrize("fault", AROUND)
    def test_surroundings(self, target: Target, loader: Loader, fault: str) -> None:
        """All may be missed. It holds for the second load as for the first, whatever the first one left."""
        if fault != "no thread":  # where a store has none yet
            assert loader.load(PATIENCE_S) == dict.fromkeys(KEYS, "right")
        for _ in range(2):
            start = time.monotonic()
            with AROUND[fault](target):
                found = loader.load(SHORT_S)
            assert time.monotonic() - start < SHORT_S + GRACE_S + SLACK_S
            for key in KEYS:
                note(target.name, fault, found[key])
                assert found[key] in ("right", "missed")
        until = time.monotonic() + PATIENCE_S  # a client may look for a lost server only now and then
        while (found := loader.load(PATIENCE_S)) != dict.fromkeys(KEYS, "right") and time.monotonic() < until:
            time.sleep(0.1)
        assert found == dict.fromkeys(KEYS, "right")

    def test_a_deadline_that_has_passed(self, target: Target, store: Store, loader: Loader) -> None:
        """Missed at once."""
        found = loader.load(-1.0)
        note(target.name, "deadline passed", found[BROKEN])
        assert set(found.values()) == {"missed"}

    def test_two_writers(self, target: Target, store: Store, loader: Loader) -> None:
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
                found = loader.load(PATIENCE_S)
                note(target.name, "two writers", found[BROKEN])
                assert found == dict.fromkeys(KEYS, "right")
        finally:
            over.set()
            for writer in writers:
                writer.join()


def _judged(layout: Layout, key: ChunkKey, data: bytes) -> Outcome:
    """As the engines with ``verify=1`` judge what they have read."""
    try:
        checksums = check_header(layout, key, data[: layout.header_bytes])
        for layer in range(layout.geometry.layers):
            begin = layout.offset(layer)
            check_layer(key, layer, checksums[layer], [data[begin : begin + layout.geometry.layer_bytes]])
    except StoreError:
        return "refused"
    return "right" if data == chunk_object(layout.geometry, key) else "wrong"


def note(store: str, fault: str, outcome: Outcome) -> None:
    """Keep what came of a broken chunk, for ``table``."""
    OUTCOMES.setdefault((store, fault), Counter())[outcome] += 1


def table() -> str:
    """All cells so far in Markdown: a row per fault, a column per store."""
    stores = list(dict.fromkeys(store for store, _ in OUTCOMES))
    faults = list(dict.fromkeys(fault for _, fault in OUTCOMES))
    rows = [["fault", *stores], ["---"] * (1 + len(stores))]
    for fault in faults:
        rows.append([fault, *(", ".join(sorted(OUTCOMES.get((store, fault), ()))) or "-" for store in stores)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
