"""Lifetimes and order on a device, by a fake that is as late as it may be: engines are right, and each mistake is found."""

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from late_steps import CHUNKS, run, small
from test_into_device_memory import TensorStore

from harness.engines.chunkwise import Chunkwise
from harness.engines.deferred import Deferred
from harness.engines.device import Rows
from harness.engines.fetch import Fetcher
from harness.engines.layerwise import Layerwise
from harness.engines.ring import Ring
from harness.stores import open_store
from harness.stores.base import Store
from harness.testing.late_device import LateDevice

SPECS = (
    "chunkwise",
    "chunkwise:batch=2",
    "chunkwise:pool=3",
    "layerwise:readers=1",
    "layerwise:depth=6,readers=3",
    "layerwise:depth=2,readers=2,batch=2,groups=2",
    "layerwise:depth=3,loops=1,readers=3",
    "layerwise:groups=1+3+2,readers=2",
    "layerwise:groups=auto,readers=2",
    "deferred:release=2,readers=2",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"file://{tmp_path}/kv") as store:
        small(store, LateDevice()).put(*CHUNKS)
        yield store


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), spec=st.sampled_from(SPECS), filled=st.booleans())
def test_the_forward_sees_what_was_loaded_and_nothing_comes_late(store: Store, seed: int, spec: str, filled: bool) -> None:
    """``filled``: a store that fills device memory by itself, without regard to streams."""
    assert run(spec, TensorStore(store) if filled else store, seed) == []


@dataclass(frozen=True)
class Mutation:
    """A mistake: ``old`` becomes ``new`` in a method."""

    owner: type[Any]
    method: str
    old: str
    new: str
    spec: str
    filled: bool = False


MUTATIONS = {
    "a slot is free before its copy is done": Mutation(
        Fetcher, "_fetch", "self.copies() if slots else None", "None", "chunkwise:pool=3"
    ),
    "a slot's event is recorded before its copy is queued": Mutation(
        Fetcher,
        "_fetch",
        "return self._finish(pieces, landings, ring, start, failures)",
        "ring.give(slots, self.copies()); slots = []; return self._finish(pieces, landings, ring, start, failures)",
        "layerwise:readers=1",
    ),
    "the ring does not look at events": Mutation(Ring, "_claim", "if event.query()", "if True", "chunkwise"),
    "the ring forgets events": Mutation(Ring, "give", "if event is None", "if True", "layerwise:depth=6,readers=3"),
    "copies don't wait for the forward before them": Mutation(
        Fetcher, "begin_step", "self._port.wait(self._stream, forward)", "pass", "layerwise:readers=1"
    ),
    "reads into the device don't wait for the forward before them": Mutation(
        Fetcher, "_fetch", "self._free.synchronize()", "pass", "chunkwise", filled=True
    ),
    "the forward does not wait for a chunkwise load": Mutation(
        Chunkwise, "begin_load", "self._fetcher.hold_forward(self._fetcher.copies())", "pass", "chunkwise:pool=3"
    ),
    "the forward does not wait for a layer": Mutation(
        Layerwise, "wait_layer", "self._fetcher.hold_forward(event)", "pass", "layerwise:readers=1"
    ),
    "the forward waits for the first group only": Mutation(
        Layerwise, "wait_layer", "layer == self._firsts[group]", "layer == 0", "layerwise:depth=6,readers=3"
    ),
    "a layer's event is recorded after its first call": Mutation(
        Layerwise, "_done", "self._remaining[group] == 1", "self._events[group] is None", "layerwise:readers=1"
    ),
    "a released request's forward does not wait for a layer": Mutation(
        Deferred, "wait_layer", "self._fetcher.hold_forward(event)", "pass", "deferred:release=2,readers=2"
    ),
    "blocks of who left are settled before they are copied into": Mutation(
        Deferred, "settle", "self._fetcher.hold_forward(self._fetcher.copies())", "pass", "deferred:release=2,readers=2"
    ),
    "who left is released before its blocks are copied into": Mutation(
        Deferred, "released", "self._fetcher.hold_forward(self._fetcher.copies())", "pass", "deferred:release=2,readers=2"
    ),
    "the end of the load does not wait for what nobody waited for": Mutation(
        Layerwise, "end_load", "self._fetcher.hold_forward(self._fetcher.copies())", "pass", "layerwise:depth=6,readers=3"
    ),
    "the forward waits for a new event of its own stream": Mutation(
        Fetcher, "hold_forward", "self._port.current(), event", "self._stream, event", "chunkwise:pool=3"
    ),
    "runs are merged that are neighbours in host memory alone": Mutation(
        Rows, "pointers", " | (np.diff(cache) != self.block_bytes)", "", "chunkwise"
    ),
    "skipped blocks are copied": Mutation(Rows, "pointers", "table.blocks != SKIP", "table.blocks != -2", "chunkwise"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_found(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation = MUTATIONS[name]
    function = getattr(mutation.owner, mutation.method)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(mutation.old) == 1, f"{mutation.method} has changed; change its mutation"
    scope: dict[str, Any] = {}
    exec(source.replace(mutation.old, mutation.new), function.__globals__, scope)
    monkeypatch.setattr(mutation.owner, mutation.method, scope[mutation.method])
    assert any(_is_found(mutation, store, seed) for seed in range(200))


def _is_found(mutation: Mutation, store: Store, seed: int) -> bool:
    try:
        return bool(run(mutation.spec, TensorStore(store) if mutation.filled else store, seed))
    except AssertionError:
        return True
