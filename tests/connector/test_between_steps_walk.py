"""Random walks of a worker through loads between steps: arrivals, clients that leave, lost chunks, blocks that change hands.

The walk frees and hands out blocks as vLLM's scheduler does: those of a request that leaves during its load once it is released,
those of one that was released at once, and all of them where the first chunk failed.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from working import Bench, Maker, Wrapped, load, make, store  # noqa: F401  fixtures among them

from harness.connector.settings import parse_arm
from harness.connector.step import Step
from harness.core.chunks import ChunkKey
from harness.stores.base import Read, Store
from harness.testing.small_kv import bytes_of, chunk_key, chunk_object, layer_data

ARMS = ("deferred:release=2,readers=3", "deferred", "deferred:release=1,groups=2,reuse=true", "deferred:release=3,loops=1")
KEYS = [chunk_key(f"walk {i}") for i in range(6)]
LOST = chunk_key("walk, never stored")


class Late(Wrapped):
    """Each read takes its time."""

    def read(self, reads: Sequence[Read]) -> None:
        time.sleep(random.random() * 0.006)
        super().read(reads)


@dataclass
class Request:
    name: str
    arm: str
    keys: list[ChunkKey]
    blocks: list[int]
    left: bool = False


class Walk:
    """What vLLM's scheduler does, and what must stand in the blocks."""

    def __init__(self, one: Bench, seed: int) -> None:
        self.one = one
        self.random = random.Random(seed)
        self.per = one.cache.geometry.chunk_blocks
        self.free = list(range(one.cache.blocks))
        self.loading: dict[str, Request] = {}
        self.ready: dict[str, Request] = {}
        self.written: dict[int, int] = {}
        self.drops: list[str] = []
        self.others: list[list[int]] = []
        self.count = self.computed = 0

    def take(self, count: int) -> list[int]:
        self.random.shuffle(self.free)
        taken, self.free = self.free[:count], self.free[count:]
        return taken

    def step(self) -> None:
        step = Step(drops=self.drops, tokens=1)
        self.drops = []
        joins = [request for request in self.ready.values() if self.random.random() < 0.5]
        step.joins = [request.name for request in joins]
        for _ in range(self.random.randint(0, 2)):
            self.arrive(step)
        others = self.take(self.random.randint(0, 12))  # of requests that compute all of their tokens
        for block in others:
            self.check_written(block)
        step.fresh += others
        self.one.worker.before(step)
        self.one.worker.start_load(step)
        for layer in range(self.one.cache.geometry.layers):
            self.one.worker.wait_layer(layer)
            for request in joins:
                self.check(request, layer)
            self.one.cache.rows.layers[layer][others] = self.count % 251
        self.written |= dict.fromkeys(others, self.count % 251)
        self.one.worker.finish(step)
        released = self.one.worker.released()
        invalid = self.one.worker.take_invalid()
        for request in joins:
            del self.ready[request.name]
            self.free += request.blocks
            self.computed += 1
        self.others.append(others)
        if self.random.random() < 0.8:
            self.free += self.others.pop(self.random.randrange(len(self.others)))
        self.leave()  # before vLLM hears what the workers said
        for name in released:
            self.release(self.loading.pop(name), invalid)

    def arrive(self, step: Step) -> None:
        keys = self.random.sample(KEYS, self.random.randint(1, 3))
        if self.random.random() < 0.2:
            keys[self.random.randrange(len(keys))] = LOST
        if len(self.free) < len(keys) * self.per:
            return
        self.count += 1
        request = Request(f"r{self.count}", self.random.choice(ARMS), keys, self.take(len(keys) * self.per))
        for block in request.blocks:
            self.check_written(block)
        self.loading[request.name] = request
        step.begins.append(load(request.arm, request.name, keys, request.blocks))
        step.fresh += request.blocks

    def leave(self) -> None:
        for request in list(self.loading.values()):
            if not request.left and self.random.random() < 0.2:
                request.left = True
                self.drops.append(request.name)
        for request in list(self.ready.values()):
            if self.random.random() < 0.4:
                del self.ready[request.name]
                self.drops.append(request.name)
                self.free += request.blocks

    def release(self, request: Request, invalid: set[int]) -> None:
        failed = next((i for i, block in enumerate(request.blocks) if block in invalid), len(request.blocks))
        if request.left:
            self.free += request.blocks
        elif failed == 0:
            self.drops.append(request.name)
            self.free += request.blocks
        else:
            kept = failed // self.per
            assert LOST not in request.keys[:kept]
            self.free += request.blocks[failed:]
            request.keys, request.blocks = request.keys[:kept], request.blocks[:failed]
            self.ready[request.name] = request

    def check(self, request: Request, layer: int) -> None:
        geometry = self.one.cache.geometry
        found = bytes_of(self.one.cache.layers[layer], self.one.cache.blocks)
        for index, key in enumerate(request.keys):
            if key != LOST:  # a chunk that is lost after the release is told at the end of the step
                blocks = request.blocks[index * self.per : (index + 1) * self.per]
                assert b"".join(found[block] for block in blocks) == layer_data(geometry, key, layer), request

    def check_written(self, block: int) -> None:
        if (value := self.written.pop(block, None)) is not None:
            for layer in self.one.cache.rows.layers:
                assert set(layer[block].tolist()) == {value}, f"a late write to block {block}"


@pytest.mark.parametrize("seed", range(8))
def test_requests_compute_on_right_kv_and_nothing_is_written_late(make: Maker, store: Store, seed: int) -> None:
    one = make(Late(store), traced=False, more=[parse_arm(arm) for arm in ARMS])
    for key in KEYS:
        store.write(key, [chunk_object(one.cache.geometry, key)])
    walk = Walk(one, seed)
    for _ in range(20_000):
        walk.step()
        time.sleep(0.0005)
        if walk.computed >= 15:
            break
    assert walk.computed >= 15
    for block in list(walk.written):
        walk.check_written(block)
