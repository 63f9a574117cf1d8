"""What a read, a forward's token and a read beside the forward cost, fitted to the loads that an arm has seen.

One model for all that choose: ``layerwise:groups=auto``, ``hybrid:k=cost`` and ``auto``. Medians of what is alike, since
single loads stall; costs are never negative; errors count as shares, so that a short read tells as much as a long one.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from harness.core.recurrence import Line, Link, Step, chunks_to_load, predict_layerwise, ttft_by_groups
from harness.engines.base import Calls, Offer, Seen

UNLIMITED = 1e15
"""Bytes a second of a store whose larger reads took no longer."""

SIZES = 4
"""Sizes of reads that are told apart, an octave."""

FRESH = 16
"""Loads, the newest, by which the store is judged; older ones count where nothing newer tells the same."""

STALE = 0.1
"""The weight of older reads."""

WALKED = 128
"""Calls that are walked through one by one, in a tenth of a millisecond."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Costs:
    """``link``: None before reads of two sizes were seen. ``compute``: of a forward, by its tokens; None before two numbers of
    tokens. ``call_s``: what a read beside the forward takes from it. ``load``: of a whole load, by its chunks; None before two
    numbers of chunks. ``forward_s``: of a forward, whatever it computed."""

    link: Link | None
    compute: Line | None
    call_s: float
    load: Line | None
    forward_s: float

    def step(self, offer: Offer, chunks: int) -> Step:
        """The offered request's step if so many of its chunks are loaded, with what others load in it."""
        tokens = offer.prompt_tokens - chunks * offer.chunk_tokens + offer.beside_tokens
        limit = offer.step_tokens or tokens
        compute_s = self.compute.at(min(tokens, limit)) if self.compute else self.forward_s
        later = max(0, tokens - limit)  # in steps of their own, behind which nothing loads
        later_s = self.compute.start_s * -(-later // limit) + self.compute.each_s * later if self.compute and later else 0.0
        return Step(chunks + offer.beside_chunks, offer.layers, offer.layer_bytes, compute_s, later_s, self.call_s)

    def seen_step(self, offer: Offer, chunks: int, tokens: int) -> Step:
        """The step of a load of so many chunks that was seen."""
        compute_s = self.compute.at(tokens) if self.compute else self.forward_s
        return Step(chunks, offer.layers, offer.layer_bytes, compute_s, call_s=self.call_s)

    @property
    def in_words(self) -> str:
        """What was seen, for people."""
        words = []
        if self.link is not None:
            rates = [f"{_three(self.link.stream_bytes_per_s / 1e6)} MB/s"] if self.link.stream_bytes_per_s < UNLIMITED / 2 else []
            rates += [f"{_three((self.link.total_bytes_per_s or UNLIMITED) / 1e6)} MB/s in all"]
            busy = f", of which each takes {self.link.busy_s * 1e3:.2g} ms" if self.link.busy_s > 1e-5 else ""
            words.append(f"a read takes {self.link.latency_s * 1e3:.2g} ms, at {' and '.join(rates)}{busy}")
        if self.compute is not None:
            words.append(f"the forward {self.compute.start_s * 1e3:.3g} ms and {self.compute.each_s * 1e3:.2g} ms a token")
            words.append(f"a read beside it takes {self.call_s * 1e3:.2g} ms from it")
        return "; ".join(words)

    def part(self, offer: Offer) -> int | None:
        """How many of the chunks to load so that loading and computing end together; None before it can be told."""
        if self.load is None or self.compute is None:
            return None
        return chunks_to_load(offer.chunks, offer.chunk_tokens, offer.prompt_tokens, self.load, self.compute)


def _three(value: float) -> str:
    """With three digits that mean something, and never as a power of ten."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def expected(link: Link, step: Step, readers: int, batch: int, groups: Sequence[int]) -> float:
    """Seconds until the forward has ended, by the recurrence itself where it is quick: with few calls it counts how they fall to
    the readers."""
    if -(-step.chunks // batch) * len(groups) > WALKED:
        return ttft_by_groups(link, step, readers, step.layers, batch)(groups)
    return predict_layerwise(link, step, readers, step.layers, groups, batch)


def fitted(seen: Sequence[Seen]) -> Costs | None:
    """Costs by the loads in ``seen``; None of none."""
    if not seen:
        return None
    timed = [one for one in seen if one.timed]
    partial = [one for one in timed if one.way != "chunkwise"]  # other reads than beside a forward
    compute = _compute(timed) if len({one.tokens for one in timed}) > 1 else None
    line = compute[0] if compute else None
    load = None
    if len({one.chunks for one in partial}) > 1:
        start, each = _fit(partial, lambda one: one.chunks, lambda one: (1, one.chunks), lambda one: one.load_s)
        load = Line(start, each)
    return Costs(_link(seen), line, compute[1] if compute else 0.0, load, median_low(one.compute_s for one in seen))


def _compute(seen: Sequence[Seen]) -> tuple[Line, float]:
    start, each, call = _fit(
        seen, lambda one: (one.tokens, one.beside), lambda one: (1, one.tokens, one.beside), lambda one: one.compute_s
    )
    return Line(start, each), call


def _link(seen: Sequence[Seen]) -> Link | None:
    """Round trip and bandwidths by reads of two sizes at least; None of one size.

    A read takes latency + size / stream, or, behind a pipe that others fill, at once * (busy + size / total) if that is longer.
    Total is the highest rate of a load. The reads behind a full pipe took the shortest time for the bytes under way; how many
    they are is told by how well all reads are explained.
    """
    since = seen[-1].number - FRESH
    reads: dict[tuple[float, float], list[tuple[Calls, float]]] = {}
    for one in reversed(seen):
        weight = 1.0 if one.number >= since else STALE
        for call in one.calls:
            alike = reads.setdefault((round(SIZES * math.log2(call.bytes)), round(call.at_once)), [])
            if not alike or alike[0][1] == weight:  # old ones count where nothing newer tells the same
                alike.append((call, weight))
    newest = [one for one in seen if one.number >= since and one.calls]
    if len({size for size, _ in reads}) < 2 or not newest:
        return None
    middle = [sorted(alike, key=lambda one: one[0].seconds)[(len(alike) - 1) // 2] for alike in reads.values()]
    middle.sort(key=lambda one: one[0].seconds / (one[0].bytes * one[0].at_once))
    sizes, at_once, seconds, weights = np.array([(call.bytes, call.at_once, call.seconds, weight) for call, weight in middle]).T
    total = max(rate for _, rate in _medians(newest, lambda one: (one.way, one.chunks, one.groups), lambda one: one.rate))
    beside_bytes = seconds / at_once - sizes / total

    def explained(full: int) -> tuple[float, Link]:
        """The link where the first ``full`` reads were behind a full pipe, and what that leaves unexplained."""
        latency_s, alone_s = _line(sizes[full:], seconds[full:], weights[full:])
        busy_s = max(0.0, float(np.median(beside_bytes[:full]))) if full else 0.0
        by_both = np.maximum(latency_s + alone_s * sizes, at_once * (busy_s + sizes / total))
        link = Link(latency_s, 1 / max(alone_s, 1 / UNLIMITED), total, busy_s)
        return float(weights @ np.abs(np.log(np.maximum(by_both, 1e-9) / seconds))), link

    return min(map(explained, range(len(middle) + 1)), key=lambda one: one[0])[1]


def _line(sizes: Floats, seconds: Floats, trusted: Floats) -> tuple[float, float]:
    """Seconds of no bytes and of each byte more, neither below 0, by least squares of relative errors; (0, 0) of no reads."""
    if not len(sizes):
        return 0.0, 0.0
    weights = (trusted / seconds) ** 2
    one, x, xx = weights.sum(), weights @ sizes, weights @ sizes**2
    y, xy = weights @ seconds, weights @ (sizes * seconds)
    spread = one * xx - x * x
    each = (one * xy - x * y) / spread if spread > 1e-9 * one * xx else xy / xx
    start = (y - each * x) / one
    if each < 0:
        return float(y / one), 0.0
    return (0.0, float(xy / xx)) if start < 0 else (float(start), float(each))


def _fit(
    seen: Sequence[Seen],
    alike: Callable[[Seen], Hashable],
    of: Callable[[Seen], Sequence[float]],
    seconds: Callable[[Seen], float],
) -> tuple[float, ...]:
    """The factors of ``of`` that explain ``seconds``, none below 0, from the medians of those that are ``alike``."""
    features = {alike(one): of(one) for one in seen}
    rows = _medians(seen, alike, seconds)
    return _nonnegative(np.array([features[key] for key, _ in rows], float), np.array([value for _, value in rows]))


def _medians(items: Iterable[object], alike: Callable, value: Callable) -> list[tuple]:  # type: ignore[type-arg]
    """The median value of those that are alike, the lower one of two."""
    groups: dict[Hashable, list[float]] = {}
    for item in items:
        groups.setdefault(alike(item), []).append(value(item))
    return [(key, median_low(values)) for key, values in groups.items()]


def _nonnegative(columns: Floats, seconds: Floats, trusted: Floats | float = 1.0) -> tuple[float, ...]:
    """Least squares of relative errors, no factor below 0 (Lawson and Hanson); columns are scaled, as theirs differ by 1e9."""
    weights = trusted / np.maximum(seconds, max(float(seconds.max()) * 1e-3, 1e-9))
    scale = np.maximum(np.abs(columns).max(axis=0), 1e-12)
    factors, _ = nnls(columns / scale * weights[:, None], seconds * weights)
    return tuple(float(factor) for factor in factors / scale)
