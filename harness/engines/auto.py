"""Each request is loaded in the way that takes the least time by what the arm's loads have shown.

The ways are those of other engines: all chunks before the forward (``chunkwise`` with a pool), all of them in groups of layers
(``layerwise``), a part of them while the rest is computed (``hybrid``). One cost model (costs.py) and one recurrence
(harness/core/recurrence.py) say what each takes; how wrong they were about a way's newest loads corrects what they say of it.

Beside other requests a load within a step makes all of them wait, and those that come while it lasts. It is then made between
steps (``deferred``), of as many chunks as are best by themselves: what it no longer hides behind its own forward it hides
behind those of others.
"""

import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median_low

from pydantic import Field

from harness.core.chunks import LoadRequest
from harness.core.recurrence import Link, as_text
from harness.core.spans import Recorder
from harness.engines.base import BetweenSteps, Choice, EngineOptions, Offer, Released, Seen
from harness.engines.costs import Costs, expected, fitted
from harness.engines.deferred import Deferred
from harness.engines.deferred_options import DeferredOptions
from harness.engines.groups import chosen_groups, doubling
from harness.engines.layerwise import NOTHING_KNOWN, Layerwise, ReadingOptions
from harness.engines.paged import PagedKV
from harness.stores.base import Store

WAYS = ("layerwise", "hybrid", "chunkwise")
"""In the order in which they are tried: the first loads all in groups of different sizes, which tells trip from bandwidth."""

WORTH = 2.0
"""A way that is expected to take longer than so many times the best is not tried again."""

NEWEST = 3
"""Loads of each way that correct what is expected of it."""


class AutoOptions(ReadingOptions):
    """Options of ``auto``."""

    explore: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of requests that are loaded in another way than the best, if that takes at most twice as long, to see "
        "whether it still does; before that each way is tried once, in the first three loads",
    )


@dataclass(frozen=True, slots=True)
class Way:
    """One way to load a request, and the seconds until its forward has ended."""

    name: str
    chunks: int
    groups: Sequence[int]
    seconds: float

    def how(self, readers: int) -> str:
        """As an arm that always loads like that."""
        if self.name == "chunkwise":
            return f"chunkwise:pool={readers}"
        own = f"k={self.chunks}" if self.name == "hybrid" else f"depth={sum(self.groups)}"
        return f"{self.name}:{own},readers={readers},groups={as_text(self.groups)}"


class Auto(BetweenSteps):
    """Loads within the step or between steps, in the part of the hit and the groups that are chosen for each request."""

    name = "auto"
    Options = AutoOptions
    blocks_in_begin = False

    @classmethod
    def choose(cls, options: EngineOptions, offer: Offer) -> Choice:
        """Each way once, then the one with the lowest expected time, but for the share that ``explore`` leaves to the others;
        beside other requests between steps."""
        assert isinstance(options, AutoOptions)
        if not offer.layers:
            return Choice(offer.chunks)
        costs = fitted(offer.seen)
        untried = [name for name in WAYS if name not in {one.way for one in offer.seen}]
        if costs is None or costs.link is None or "layerwise" in untried:
            first = Way("layerwise", offer.chunks, doubling(offer.layers), 0.0)
            return _as_choice(first, options, NOTHING_KNOWN)
        ways = sorted(_ways(options, offer, costs), key=lambda way: way.seconds)
        for way in ways:
            if way.name in untried:
                return _as_choice(way, options, "the first load of its kind, to see what it takes")
        best, *others = ways
        turn = random.Random(offer.number)
        if turn.random() < options.explore and (others := [way for way in others if way.seconds <= WORTH * best.seconds]):
            return _as_choice(turn.choice(others), options, f"tried again; {_reason(best, ways, costs)}")
        if offer.others:
            return _between(best, options, offer, costs)
        return _as_choice(best, options, _reason(best, ways, costs))

    @classmethod
    def adapts(cls, options: EngineOptions) -> bool:
        """Always."""
        return True

    @classmethod
    def learns(cls, options: EngineOptions) -> int:
        """A load of each way."""
        return len(WAYS)

    @classmethod
    def explores(cls, options: EngineOptions) -> float:
        """As the option says."""
        assert isinstance(options, AutoOptions)
        return options.explore

    def __init__(self, store: Store, cache: PagedKV, options: AutoOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        own = {name: getattr(options, name) for name in ReadingOptions.model_fields}
        self._within = Layerwise(store, cache, options, recorder)
        between = DeferredOptions(**own, release=_release(cache.geometry.layers), reuse=_reuses(options))
        self._between = Deferred(store, cache, between, recorder)
        self._waited_s = 0.0

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """Of the requests that load within the step."""
        self._waited_s = 0.0
        self._within.begin_load(batch)

    def begin_between(self, batch: Sequence[LoadRequest]) -> None:
        """Of the others."""
        self._between.begin_between(batch)

    def released(self) -> Sequence[Released]:
        """Those whose first layers are in place."""
        return self._between.released()

    def join(self, requests: Collection[str]) -> None:
        """As ``deferred`` does."""
        self._between.join(requests)

    def drop(self, requests: Collection[str]) -> None:
        """As ``deferred`` does."""
        self._between.drop(requests)

    def settle(self, blocks: Collection[int]) -> None:
        """As ``deferred`` does."""
        self._between.settle(blocks)

    def wait_layer(self, layer: int) -> None:
        """For both."""
        self._within.wait_layer(layer)
        start = time.perf_counter()
        self._between.wait_layer(layer)
        self._waited_s += time.perf_counter() - start

    def end_load(self) -> frozenset[int]:
        """Of both."""
        try:
            failed = self._within.end_load()
        finally:
            others = self._between.end_load()
        return failed | others

    def saw(self) -> Seen | None:
        """What the load within the step took; the waits for others are not the forward's."""
        seen = self._within.saw()
        if seen is None:
            return None
        return replace(seen, compute_s=max(0.0, seen.compute_s - self._waited_s), waited_s=seen.waited_s + self._waited_s)

    def close(self) -> None:
        """Stop the readers of both."""
        self._within.close()
        self._between.close()


def _release(layers: int) -> int:
    """Layers that are in place before a request joins: a sixth, of which the others hide behind its forward's first ones."""
    return max(1, layers // 6)


def _reuses(options: AutoOptions) -> bool:
    """Wherever ``deferred`` can."""
    return not options.loops and options.batch == 1


def _between(best: Way, options: AutoOptions, offer: Offer, costs: Costs) -> Choice:
    """As many chunks as are best within a step, loaded between steps."""
    what = "all of it" if best.chunks == offer.chunks else f"{best.chunks} of {offer.chunks} chunks"
    why = f"{offer.others} other requests would wait for a load within a step; {what}: {costs.in_words}"
    how = f"deferred:release={_release(offer.layers)},readers={options.readers}" + (",reuse=true" if _reuses(options) else "")
    return Choice(best.chunks, between_steps=True, how=how, why=why)


def _ways(options: AutoOptions, offer: Offer, costs: Costs) -> Iterator[Way]:
    """What could be done, with what it is expected to take. Another way is one more entry here."""
    link = costs.link
    assert link is not None
    wrong = _wrong(options, offer, costs, link)
    parts = [offer.chunks]
    if offer.chunks > 1 and all(one.timed for one in offer.seen):
        parts.append(_part(options, offer, costs, link))
    for part in dict.fromkeys(parts):
        step = costs.step(offer, part)
        groups = chosen_groups(link, step, options.readers, offer.layers, options.batch)
        names = {"chunkwise": (offer.layers,), "layerwise": groups} if part == offer.chunks else {"hybrid": groups}
        for name, sizes in names.items():
            yield Way(name, part, sizes, wrong[name] * expected(link, step, options.readers, options.batch, sizes))


def _part(options: AutoOptions, offer: Offer, costs: Costs, link: Link) -> int:
    """The chunks to load beside computing the others: from where both end together downhill by the recurrence."""
    part = costs.part(offer) or offer.chunks // 2
    if costs.compute is None:
        return part
    groups = chosen_groups(link, costs.step(offer, part), options.readers, offer.layers, options.batch)

    @cache
    def seconds(chunks: int) -> float:
        return expected(link, costs.step(offer, chunks), options.readers, options.batch, groups)

    stride = max(1, offer.chunks // 16)
    while True:
        near = [chunks for chunks in (part - stride, part, part + stride) if 1 <= chunks <= offer.chunks]
        best = min(near, key=lambda chunks: (seconds(chunks), -chunks))
        if best == part:
            return part
        part = best


def _wrong(options: AutoOptions, offer: Offer, costs: Costs, link: Link) -> Mapping[str, float]:
    """By way, the median of seconds that its loads took over those expected of them.

    A way that was never seen is as wrong as the others, and one that was seen once at most so: its first load may have been the
    first forward of its length too, which takes longer.
    """

    @cache
    def by_costs(chunks: int, tokens: int, groups: Sequence[int]) -> float:
        step = costs.seen_step(offer, chunks, tokens)
        return max(expected(link, step, options.readers, options.batch, groups), 1e-9)

    ratios: dict[str, list[float]] = {}
    for name in WAYS:
        newest = [one for one in offer.seen if one.way == name and one.groups][-NEWEST:]
        ratios[name] = [(one.compute_s + one.waited_s) / by_costs(one.chunks, one.tokens, one.groups) for one in newest]
    own = {name: median_low(some) for name, some in ratios.items() if some}
    found = {}
    for name, some in ratios.items():
        others = [factor for other, factor in own.items() if other != name]
        usual = median_low(others) if others else 1.0
        found[name] = own.get(name, usual) if len(some) > 1 else min(usual, own.get(name, usual))
    return found


def _as_choice(way: Way, options: AutoOptions, why: str) -> Choice:
    return Choice(way.chunks, how=way.how(options.readers), why=why)


def _reason(best: Way, ways: Sequence[Way], costs: Costs) -> str:
    """The expected times, and what they are made of."""
    others = " and ".join(f"{_ms(way.seconds)} by {way.name}" for way in ways if way is not best)
    return f"{_ms(best.seconds)} expected{f', against {others}' if others else ''}: {costs.in_words}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
