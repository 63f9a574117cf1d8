"""A store and a model of which all is known: what a load takes by the recurrence, and what an engine would tell of it."""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from harness.connector.settings import Arm
from harness.core.recurrence import Link, Step, equal_groups, predict_layerwise
from harness.engines.base import Choice, Offer, Seen
from harness.engines.groups import groups_by
from harness.engines.watch import by_size

LAYERS, LAYER_BYTES, CHUNK, READERS = 24, 256 * 2048, 256, 8


@dataclass(frozen=True)
class World:
    """``start_s`` and ``token_s`` of a forward; ``call_s`` is what a read beside it takes from it."""

    link: Link
    chunks: int = 8
    suffix: int = 32
    start_s: float = 0.02
    token_s: float = 0.195e-3
    call_s: float = 0.2e-3

    def step(self, chunks: int) -> Step:
        compute_s = self.start_s + self.token_s * self.tokens(chunks)
        return Step(chunks, LAYERS, LAYER_BYTES, compute_s, call_s=self.call_s)

    def tokens(self, chunks: int) -> int:
        return self.suffix + (self.chunks - chunks) * CHUNK

    def ttft(self, chunks: int, groups: Sequence[int]) -> float:
        return predict_layerwise(self.link, self.step(chunks), READERS, LAYERS, groups)

    def best(self) -> float:
        """The lowest TTFT of any part in equal groups: a pool and layerwise are among them."""
        sizes = [equal_groups(size, LAYERS) for size in (1, 2, 3, 4, 6, 8, 12, LAYERS)]
        return min(self.ttft(chunks, groups) for chunks in range(1, self.chunks + 1) for groups in sizes)

    def seen(self, choice: Choice) -> Seen:
        """What the engine tells after it has loaded like that."""
        groups, chunks = groups_by(choice.how, LAYERS), choice.chunks
        free, pipe, calls = [0.0] * READERS, 0.0, []
        total = self.link.total_bytes_per_s or 1e15
        for layers in groups:
            size = layers * LAYER_BYTES
            for _ in range(chunks):
                start = heapq.heappop(free)
                pipe = max(pipe, start + self.link.latency_s) + self.link.busy_s + size / total
                end = max(start + self.link.latency_s + size / self.link.stream_bytes_per_s, pipe)
                heapq.heappush(free, end)
                calls.append((size, start, end))
        load_s, forward_s = max(free), self.step(chunks).work_s(len(groups), 1) * LAYERS
        return Seen(
            chunks,
            load_s,
            forward_s,
            self.tokens(chunks),
            waited_s=self.ttft(chunks, groups) - forward_s,
            how=choice.how,
            groups=groups,
            calls=by_size(calls),
        )


@dataclass
class Learning:
    """An arm that is asked again and again, and told what its choices took, as the scheduler's half does it."""

    arm: Arm
    world: World
    choices: list[Choice] = field(default_factory=list)
    loads: dict[tuple[str, int], deque[Seen]] = field(default_factory=dict)

    def offer(self) -> Offer:
        world, seen = self.world, sorted((one for some in self.loads.values() for one in some), key=attrgetter("number"))
        prompt = world.chunks * CHUNK + world.suffix
        return Offer(world.chunks, CHUNK, prompt, seen, LAYERS, LAYER_BYTES, len(self.choices))

    def serve(self, requests: int, late: float = 1.0) -> float:
        """TTFT of the last of so many requests. ``late``: what the engine tells of a load takes so many times as long."""
        for _ in range(requests):
            choice = self.arm.engine.choose(self.arm.options, self.offer())
            seen = self.world.seen(choice)
            calls = tuple(replace(call, seconds=late * call.seconds) for call in seen.calls)
            seen = replace(
                seen, number=len(self.choices), load_s=late * seen.load_s, compute_s=late * seen.compute_s, calls=calls
            )
            self.loads.setdefault((seen.way, seen.chunks.bit_length()), deque(maxlen=8)).append(seen)
            self.choices.append(choice)
        return self.world.ttft(self.choices[-1].chunks, groups_by(self.choices[-1].how, LAYERS))
