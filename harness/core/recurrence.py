"""The TTFT that the design predicts, to print beside the measured one. Pure; seconds and bytes.

The recurrence: layer i takes l_i to load and c_i to compute; the loads run ``depth`` layers ahead.

    R_i = max(R_{i-1}, D_{i-depth}) + l_i      layer i is in place
    D_i = max(D_{i-1}, R_i) + c_i              layer i is computed

Layerwise TTFT is D of the last layer; chunkwise TTFT is all loads, then all compute.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.core.errors import UsageError


def layerwise_ttft(load: Sequence[float], compute: Sequence[float], depth: int) -> float:
    """TTFT of the recurrence above; ``load`` and ``compute`` hold one entry a layer.

    ``depth`` 1 overlaps nothing (a layer is fetched when the one before it is done); at ``depth`` >= layers
    no load ever waits for compute. Raises UsageError for unequal lengths or a depth below 1.
    """
    if len(load) != len(compute):
        raise UsageError(f"{len(load)} layers to load but {len(compute)} to compute; give one time a layer for both")
    _at_least_one("depth", depth)
    loaded = 0.0
    done: list[float] = []
    for layer, (fetch, work) in enumerate(zip(load, compute, strict=True)):
        freed = done[layer - depth] if layer >= depth else 0.0
        loaded = max(loaded, freed) + fetch
        done.append(max(done[-1] if done else 0.0, loaded) + work)
    return done[-1] if done else 0.0


def chunkwise_ttft(load_total: float, compute_total: float) -> float:
    """TTFT when the forward begins after the last byte: the sum."""
    return load_total + compute_total


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds as ``start_s + each_s * count``: of a load by its chunks, of a forward by its tokens."""

    start_s: float
    each_s: float

    def at(self, count: int) -> float:
        """Seconds of ``count`` of them; none take none."""
        return self.start_s + self.each_s * count if count else 0.0


def chunks_to_load(chunks: int, chunk_tokens: int, prompt_tokens: int, load: Line, compute: Line) -> int:
    """How many of the first ``chunks`` stored chunks to load (1 to all) while the rest of the prompt is computed beside it.

    The lower of both times counts for nothing, so it is the k with the lowest max(load, compute): both end together. Of equal
    ones the larger k, which computes less. It takes the rest of the prompt to fit into one step.
    """
    _at_least_one("chunks", chunks)
    return min(range(chunks, 0, -1), key=lambda k: max(load.at(k), compute.at(prompt_tokens - k * chunk_tokens)), default=chunks)


@dataclass(frozen=True, slots=True)
class Link:
    """What a store gives: ``latency_s`` a call, a rate a stream, and a rate for all streams together (None: no limit).

    ``busy_s``: of the time of all streams together, what a call takes beside its bytes: a server's work for it, or round trips
    that pass at the same time because readers are in step.
    """

    latency_s: float
    stream_bytes_per_s: float
    total_bytes_per_s: float | None = None
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One forward step that needs stored KV: ``chunks`` of ``layers`` layers of ``layer_bytes`` each.

    ``compute_s`` is the whole forward without any load, spread evenly over the layers; ``overhead_s`` is
    what comes before and after it in any case (scheduling, sampling, the way to the client), and hides nothing.
    ``call_s`` is what a store call takes from the forward beside which it runs: all but those of the first group.
    """

    chunks: int
    layers: int
    layer_bytes: int
    compute_s: float
    overhead_s: float = 0.0
    call_s: float = 0.0

    def work_s(self, groups: int, batch: int) -> float:
        """Seconds that each layer computes while its loads come in so many groups."""
        beside = (groups - 1) * -(-self.chunks // batch)
        return (self.compute_s + self.call_s * beside) / self.layers if self.layers else 0.0


def predict_chunkwise(link: Link, step: Step, pool: int = 0, batch: int = 1) -> float:
    """TTFT of the chunkwise engine: ``pool`` threads (0: the calling one alone), ``batch`` chunks a call."""
    _at_least_one("batch", batch)
    size = step.layers * step.layer_bytes
    streams = _Streams(link, max(pool, 1))
    load = streams.fetch(0.0, [size * count for count in _batches(step.chunks, batch)])
    return step.overhead_s + chunkwise_ttft(load, step.compute_s)


def predict_layerwise(link: Link, step: Step, readers: int, depth: int, groups: int | Sequence[int] = 1, batch: int = 1) -> float:
    """TTFT of the layerwise engine: the recurrence, with each layer's loads as calls on ``readers`` streams.

    Calls start in order as soon as a stream is free and the layers that ``depth`` demands are computed, so
    the next layer's calls fill the streams while the last ones of a layer still run. The neighbouring layers of a group
    of a chunk come in one call, which may start once the first of them may: ``groups`` of equal size, or their sizes.
    """
    for name, value in (("readers", readers), ("depth", depth), ("batch", batch)):
        _at_least_one(name, value)
    streams = _Streams(link, readers)
    sizes = equal_groups(groups, step.layers) if isinstance(groups, int) else groups
    work = step.work_s(len(sizes), batch)
    done: list[float] = []
    for size in sizes:
        first = len(done)
        freed = done[first - depth] if first >= depth else 0.0
        loaded = streams.fetch(freed, [size * step.layer_bytes * count for count in _batches(step.chunks, batch)])
        for _ in range(size):
            done.append(max(done[-1] if done else 0.0, loaded) + work)
    return step.overhead_s + (done[-1] if done else 0.0)


def equal_groups(size: int, layers: int) -> tuple[int, ...]:
    """Groups of ``size`` layers, the last one of what is left. Raises UsageError for a size below 1."""
    _at_least_one("layers of a group", size)
    return tuple(_batches(layers, size))


def sizes_of(text: str) -> tuple[int, ...]:
    """``6`` or ``2+4+6`` as numbers. Raises UsageError for anything else."""
    try:
        sizes = tuple(int(part) for part in text.split("+"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"groups={text} is no number of layers; write 6 for groups of 6 layers, 2+4+6 for unequal ones, or auto")
    return sizes


def as_text(sizes: Sequence[int]) -> str:
    """Sizes of groups as ``groups_of`` reads them: ``6`` where they are equal, but for a shorter last one."""
    sizes = tuple(sizes)
    return str(sizes[0]) if sizes == equal_groups(sizes[0], sum(sizes)) else "+".join(map(str, sizes))


def groups_of(text: str, layers: int) -> tuple[int, ...]:
    """``6`` (groups of 6 layers) or ``2+4+6`` as sizes of groups of a model of ``layers`` layers.

    Raises UsageError for anything else, and where they don't add up to the layers.
    """
    sizes = sizes_of(text)
    if len(sizes) == 1:
        return equal_groups(sizes[0], layers)
    if sum(sizes) != layers:
        raise UsageError(f"groups={text} come to {sum(sizes)} layers, but the model has {layers}; let them add up to that")
    return sizes


def best_groups(link: Link, step: Step, readers: int, depth: int, batch: int = 1) -> tuple[int, ...]:
    """The groups with the lowest TTFT by the recurrence, of those that a plain rule can write.

    The candidates: equal groups, with a smaller first group (so that compute begins earlier) and a smaller last one (since
    its compute hides behind no load). ``ttft_by_groups`` is near enough to choose by, and takes
    a millisecond or two in all: it is asked while a request waits.
    """
    sizes = {size for size in (*range(1, 9), 10, 12, 16, 20, 24, 32, 40, 48, 64, step.layers) if size <= step.layers}
    found = {
        (*head, *_batches(step.layers - sum(head) - sum(tail), size), *tail): None
        for size in sorted(sizes)
        for head in ((), *((n,) for n in (1, 2, 4) if n < size))
        for tail in ((), *((n,) for n in (1, 2) if n < size))
        if sum(head) + sum(tail) < step.layers
    }
    near = ttft_by_groups(link, step, readers, depth, batch)

    def exact(groups: Sequence[int]) -> float:
        return predict_layerwise(link, step, readers, depth, groups, batch)

    # Of equal ones the fewest groups: each call takes something from the forward, whether ``call_s`` says so or not.
    ordered = sorted(found, key=lambda groups: (round(near(groups), 9), len(groups)))
    if -(-step.chunks // batch) >= 2 * readers:
        return ordered[0] if ordered else ()
    # With few calls what counts is how they fall to the readers, and the recurrence itself is quick.
    equal = [equal_groups(size, step.layers) for size in (1, 2, 3, 4, 6, 8, 12)]
    return min([*ordered[:6], *equal], key=lambda groups: (round(exact(groups), 9), len(groups)), default=())


def ttft_by_groups(link: Link, step: Step, readers: int, depth: int, batch: int = 1) -> Callable[[Sequence[int]], float]:
    """TTFT by groups, as ``predict_layerwise`` has it where the calls of a group are alike: rounds of ``readers`` calls, or
    several groups at once where a group has fewer calls than there are readers. Takes about 10 microseconds for groups."""
    calls = _batches(step.chunks, batch)
    lanes = max(1, readers // max(1, len(calls)))
    at_once = max(1, min(readers, len(calls) * lanes))
    per_layer = step.layer_bytes * max(calls, default=0)
    alone, shared = per_layer / link.stream_bytes_per_s, per_layer * at_once / (link.total_bytes_per_s or math.inf)
    busy_s = link.busy_s * at_once
    rounds, busy = -(-len(calls) // readers), max(1.0, len(calls) / readers)

    def ttft(sizes: Sequence[int]) -> float:
        work = step.work_s(len(sizes), batch)
        loaded = done = 0.0
        free = [0.0] * lanes
        began: list[tuple[int, float]] = []  # first layer of each group, and when its compute began
        first = waits_for = 0
        for size in sizes:
            allowed = 0.0
            if first >= depth:  # once layer first - depth is computed
                while waits_for + 1 < len(began) and began[waits_for + 1][0] <= first - depth:
                    waits_for += 1
                layer, begin = began[waits_for]
                allowed = begin + (first - depth - layer + 1) * work
            start = max(heapq.heappop(free), allowed)
            # Behind a full pipe a call's round trip passes while others transfer, but for the first.
            call = max(link.latency_s + size * alone, busy_s + size * shared + (0.0 if began else link.latency_s))
            heapq.heappush(free, start + busy * call)
            loaded = max(loaded, start + rounds * call)
            began.append((first, max(done, loaded)))
            done = began[-1][1] + size * work
            first += size
        return step.overhead_s + done

    return ttft


class _Streams:
    """Equal streams that take calls in order (list scheduling), behind one shared pipe."""

    def __init__(self, link: Link, count: int) -> None:
        self._link = link
        self._free = [0.0] * count
        self._pipe = 0.0
        self._last = 0.0

    def fetch(self, not_before: float, sizes: Sequence[int]) -> float:
        """Run one call a size; the time at which all calls so far have ended."""
        link = self._link
        for size in sizes:
            begin = max(heapq.heappop(self._free), not_before) + link.latency_s
            end = begin + size / link.stream_bytes_per_s
            if link.total_bytes_per_s is not None:
                self._pipe = max(self._pipe, begin) + link.busy_s + size / link.total_bytes_per_s
                end = max(end, self._pipe)
            heapq.heappush(self._free, end)
            self._last = max(self._last, end)
        return self._last


def _batches(items: int, size: int) -> list[int]:
    return [min(size, items - start) for start in range(0, items, size)]


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} is {value}; it must be at least 1")
