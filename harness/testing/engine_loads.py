"""Loads of a few chunks by an engine over a store, each chunk judged: served right, missed, refused, or wrong."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, Literal

import torch

from harness.core.chunks import ChunkKey, LoadRequest
from harness.core.errors import ReadFailures, StoreError
from harness.core.options import parse_options, split_spec
from harness.core.spans import Recorder
from harness.engines import ENGINES
from harness.engines.base import BetweenSteps, Engine
from harness.stores.base import Read, Store
from harness.stores.wrapper import Wrapper
from harness.testing.small_kv import Shape, bytes_of, chunk_key, chunk_object, layer_data

Outcome = Literal["right", "missed", "refused", "wrong"]

SHAPE = Shape(width=21, dtype=torch.float32, layers=3, blocks=10)
"""The smallest cache with all that matters: padded layers, a first, a middle and a last one, and blocks of nobody."""
GEOMETRY = SHAPE.build().geometry
KEYS = tuple(chunk_key(f"fault {number}") for number in range(4))
BLOCKS = (7, 0, 4, 2, 9, 3, 1, 6)
NOBODYS = tuple(block for block in range(SHAPE.blocks) if block not in BLOCKS)

PATIENCE_S = 10.0
"""The deadline of loads that have to succeed, and how long a store may take to be well again."""
SHORT_S = 0.25
"""The deadline of loads while something is wrong that may last for ever."""

_SMALL: Mapping[str, object] = {"verify": True, "readers": 2, "batch": 2}
"""Options of every engine that has them: two calls of two chunks each, so that a broken chunk shares its call."""


def engine_specs() -> list[str]:
    """Every engine that loads KV, by threads and by an event loop where it has both."""
    specs = []
    for name, engine in sorted(ENGINES.all().items()):
        if engine.loads_kv and engine.grants_hits:
            specs += [name, f"{name}:loops=1"] if "loops" in engine.Options.model_fields else [name]
    return specs


def verifies(spec: str) -> bool:
    """Whether the engine can check the checksums of layers."""
    return "verify" in ENGINES.get(split_spec(spec)[0]).Options.model_fields


def whole_objects() -> list[tuple[ChunkKey, list[bytes]]]:
    """The chunks as ``write_many`` takes them."""
    return [(key, [chunk_object(GEOMETRY, key)]) for key in KEYS]


class _Witness(Wrapper):
    """Notes which chunks the store did not give, and may move the deadlines of reads."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.failed: dict[str, StoreError] = {}
        self.deadline: float | None = None

    def read(self, reads: Sequence[Read]) -> None:
        """Noted."""
        try:
            self.inner.read(self._moved(reads))
        except StoreError as error:
            self._note(reads, error)
            raise

    async def aread(self, reads: Sequence[Read]) -> None:
        """Noted."""
        try:
            await self.inner.aread(self._moved(reads))
        except StoreError as error:
            self._note(reads, error)
            raise

    def _moved(self, reads: Sequence[Read]) -> Sequence[Read]:
        return reads if self.deadline is None else [replace(item, deadline=self.deadline) for item in reads]

    def _note(self, reads: Sequence[Read], error: StoreError) -> None:
        each = error.failures if isinstance(error, ReadFailures) else dict.fromkeys(range(len(reads)), error)
        self.failed |= {reads[position].key: reason for position, reason in each.items()}


def _begun(engine: Any, request: LoadRequest) -> frozenset[int]:
    """Begin the load: within the step, or before it where the engine can, until it has released the request. Returns the blocks
    that have failed already."""
    if not isinstance(engine, BetweenSteps):
        engine.begin_load([request])
        return frozenset()
    engine.begin_between([request])
    until = time.monotonic() + 2 * PATIENCE_S
    while not (released := engine.released()):
        assert time.monotonic() < until, "the request was never released"
        time.sleep(0.001)
    engine.join([request.request])
    return frozenset(released[0].failed)


class EngineLoads:
    """One engine, set for two deadlines, over ``store``. Its threads and loops are there before anything breaks."""

    def __init__(self, spec: str, store: Store) -> None:
        """``spec``: as a user writes it, without the options that ``_SMALL`` sets."""
        self._witness = _Witness(store)
        self._cache = SHAPE.build()
        self._end: list[list[bytes]] | None = None
        with ExitStack() as stack:
            self._patient = stack.enter_context(closing(self._engine(spec, PATIENCE_S)))
            self._short = stack.enter_context(closing(self._engine(spec, SHORT_S)))
            self._stack = stack.pop_all()

    def _engine(self, spec: str, seconds: float) -> Engine:
        name, given = split_spec(spec)
        engine = ENGINES.get(name)
        wanted = {**_SMALL, "deadline_ms": int(seconds * 1000)}
        options = {key: value for key, value in wanted.items() if key in engine.Options.model_fields}
        return engine(self._witness, self._cache, parse_options(engine.Options, {**options, **given}, spec), Recorder())

    def load(self, *, short: bool = False, passed: bool = False) -> dict[ChunkKey, Outcome]:
        """One step with all chunks; ``passed``: with a deadline that lies behind. Raises what is no error of a chunk."""
        self.check_nothing_moved()
        self._witness.failed = {}
        self._witness.deadline = time.monotonic() - 1 if passed else None
        for layer in self._cache.layers:
            layer.zero_()
        engine = self._short if short else self._patient
        in_time = []
        failed = _begun(engine, LoadRequest("load", KEYS, BLOCKS))
        for layer in range(GEOMETRY.layers):
            engine.wait_layer(layer)
            in_time.append(bytes_of(self._cache.layers[layer], SHAPE.blocks))
        failed |= engine.end_load()
        self._end = self._contents()
        assert all("\n" not in str(error) for error in self._witness.failed.values())
        assert not any(any(layer[block]) for layer in self._end for block in NOBODYS), "blocks of nobody were written"
        return {key: self._judged(index, in_time, failed) for index, key in enumerate(KEYS)}

    def _judged(self, index: int, in_time: list[list[bytes]], failed: frozenset[int]) -> Outcome:
        per = GEOMETRY.chunk_blocks
        own = BLOCKS[index * per : (index + 1) * per]
        if failed.issuperset(own):
            return "missed" if KEYS[index] in self._witness.failed else "refused"
        assert self._end is not None
        for layer in range(GEOMETRY.layers):
            data = layer_data(GEOMETRY, KEYS[index], layer)
            for found in (in_time[layer], self._end[layer]):
                if b"".join(found[block] for block in own) != data:
                    return "wrong"
        return "wrong" if failed.intersection(own) else "right"

    def _contents(self) -> list[list[bytes]]:
        return [bytes_of(layer, SHAPE.blocks) for layer in self._cache.layers]

    def check_nothing_moved(self) -> None:
        """Since the last load nothing was written: its blocks may belong to somebody else by now."""
        assert self._end is None or self._contents() == self._end, "blocks were written after their load"

    @property
    def why(self) -> Mapping[str, StoreError]:
        """Why the store did not give chunks in the last load."""
        return self._witness.failed

    def close(self) -> None:
        """End the engines."""
        self._stack.close()
        self.check_nothing_moved()
