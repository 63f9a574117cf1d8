"""Steps of an engine over a late device, with a forward that attends to what was loaded, and then reuses the blocks."""

import time
from collections.abc import Sequence
from random import Random

import torch

from harness.connector.settings import parse_arm
from harness.core.chunks import SKIP, LoadRequest
from harness.core.spans import Recorder
from harness.engines.base import BetweenSteps, Engine
from harness.engines.paged import PagedKV
from harness.stores.base import Store
from harness.testing.between_steps import released
from harness.testing.late_device import LateDevice
from harness.testing.small_kv import WHOLE_PAGES, SmallKV, bytes_of, chunk_key, layer_data

CHUNKS = [f"chunk {number}" for number in range(12)]


class Forward:
    """The work of a model on the device's stream. ``wrong`` collects what it found that wasn't as it must be."""

    def __init__(self, kv: SmallKV, device: LateDevice) -> None:
        self._kv = kv
        self._device = device
        self.wrong: list[str] = []

    def attend(self, step: int, layer: int, wanted: dict[int, bytes]) -> None:
        """Read blocks when the stream has come so far."""

        def look() -> None:
            found = bytes_of(self._kv.cache.layers[layer], self._kv.cache.blocks)
            self.wrong.extend(f"step {step}, layer {layer}, block {b}" for b, data in wanted.items() if found[b] != data)

        self._device.work(self._device.current(), look)

    def reuse(self, step: int, blocks: Sequence[int]) -> None:
        """Write to blocks, as the next request does that gets them."""

        def write() -> None:
            for rows in self._kv.cache.rows.layers:
                rows[list(blocks)] = torch.tensor(step + 1, dtype=torch.uint8)

        self._device.work(self._device.current(), write)


def small(store: Store, device: LateDevice) -> SmallKV:
    """A cache on the device."""
    plain = WHOLE_PAGES.build()
    return SmallKV(PagedKV(plain.layers, plain.geometry.chunk_blocks, plain.geometry.block_tokens, port=device), store)


def batch_of(random: Random, kv: SmallKV, step: int) -> list[LoadRequest]:
    """One or two requests; their blocks differ, and are those of other steps as well."""
    per = kv.cache.geometry.chunk_blocks
    free = random.sample(range(kv.cache.blocks), kv.cache.blocks)
    batch = []
    for number in range(random.randint(1, 2)):
        keys = tuple(map(chunk_key, random.sample(CHUNKS, random.randint(1, 5))))
        blocks = tuple(SKIP if random.random() < 0.1 else free.pop() for _ in range(per * len(keys)))
        batch.append(LoadRequest(f"step {step}, request {number}", keys, blocks))
    return batch


def wanted_in(kv: SmallKV, batch: Sequence[LoadRequest], layer: int) -> dict[int, bytes]:
    """What each block of a layer must hold."""
    geometry = kv.cache.geometry
    size, per = geometry.block_bytes, geometry.chunk_blocks
    return {
        block: layer_data(geometry, key, layer)[position * size : (position + 1) * size]
        for request in batch
        for index, key in enumerate(request.chunks)
        for position, block in enumerate(request.blocks[index * per : (index + 1) * per])
        if block != SKIP
    }


def _begin(engine: Engine, batch: Sequence[LoadRequest], between: bool) -> None:
    if isinstance(engine, BetweenSteps) and between:
        engine.begin_between(batch)
        engine.join(released(engine, len(batch)))
    else:
        engine.begin_load(batch)


def _leave(engine: BetweenSteps, batch: Sequence[LoadRequest], late: bool) -> list[int]:
    """Requests that leave during their load, before or after their release; returns their blocks, which others have now."""
    blocks = [block for request in batch for block in request.blocks if block != SKIP]
    engine.begin_between(batch)
    if late:
        released(engine, len(batch))
    else:
        time.sleep(0.001)  # or they would hardly have begun
    engine.drop([request.request for request in batch])
    if late:
        engine.settle(blocks)
    else:
        released(engine, len(batch))
    return blocks


def run(spec: str, store: Store, seed: int, steps: int = 4) -> list[str]:
    """What went wrong in some steps of the engine ``spec`` over ``store``, which holds CHUNKS."""
    random, device = Random(seed), LateDevice(seed)
    kv = small(store, device)
    arm = parse_arm(spec)
    engine: Engine = arm.engine(store, kv.cache, arm.options, Recorder(enabled=False))
    forward = Forward(kv, device)
    layers = kv.cache.geometry.layers
    reused: dict[int, int] = {}
    try:
        for step in range(steps):
            if isinstance(engine, BetweenSteps):
                blocks = _leave(engine, batch_of(random, kv, step), random.random() < 0.5)
                forward.reuse(step, blocks)
                reused |= dict.fromkeys(blocks, step + 1)
            batch = batch_of(random, kv, step)
            _begin(engine, batch, between=step % 2 == 1)
            for layer in range(layers if random.random() < 0.5 else random.randint(1, layers)):  # or the forward breaks off
                engine.wait_layer(layer)
                forward.attend(step, layer, wanted_in(kv, batch, layer))
            assert engine.end_load() == frozenset()
            blocks = [block for request in batch for block in request.blocks if block != SKIP]
            forward.reuse(step, blocks)
            reused |= dict.fromkeys(blocks, step + 1)
        device.settle()
    finally:
        engine.close()
    for layer in range(layers):
        found = bytes_of(kv.cache.layers[layer], kv.cache.blocks)
        late = [block for block, byte in reused.items() if set(found[block]) != {byte}]
        forward.wrong.extend(f"a late copy into block {block} of layer {layer}, which was reused" for block in late)
    return forward.wrong
