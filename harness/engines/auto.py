"""Each request is loaded in the way that takes the least time by what the arm's loads have shown.

The ways are those of other engines: all chunks before the forward (``chunkwise`` with a pool), all of them in groups of layers
(``layerwise``), a part of them while the rest is computed (``hybrid``). One cost model (costs.py) and one recurrence
(harness/core/recurrence.py) say what each takes; how wrong they were about a way's newest loads corrects what they say of it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median_low

from pydantic import Field

from harness.core.recurrence import Link, as_text
from harness.engines.base import Choice, EngineOptions, Offer, Seen
from harness.engines.costs import Costs, expected, fitted
from harness.engines.groups import chosen_groups, doubling
from harness.engines.layerwise import NOTHING_KNOWN, Layerwise, ReadingOptions

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


class Auto(Layerwise):
    """``layerwise`` whose part of the hit and whose groups are chosen for each request; one group is a pool."""

    name = "auto"
    Options = AutoOptions

    @classmethod
    def choose(cls, options: EngineOptions, offer: Offer) -> Choice:
        """Each way once, then the one with the lowest expected time, but for the share that ``explore`` leaves to the others."""
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
        others = [way for way in others if way.seconds <= WORTH * best.seconds]
        turn = random.Random(offer.number)
        if others and turn.random() < options.explore:
            return _as_choice(turn.choice(others), options, f"tried again; {_reason(best, ways, costs)}")
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


def _ways(options: AutoOptions, offer: Offer, costs: Costs) -> Iterator[Way]:
    """What could be done, with what it is expected to take. Another way is one more entry here."""
    link = costs.link
    assert link is not None
    own = [one for one in offer.seen if one.groups]
    wrong = {name: _wrong([one for one in own if one.way == name][-NEWEST:], options, offer, costs, link) for name in WAYS}
    known = [factor for factor in wrong.values() if factor is not None]
    parts = [offer.chunks]
    if offer.chunks > 1 and all(one.timed for one in offer.seen):
        parts.append(_part(options, offer, costs, link))
    for part in dict.fromkeys(parts):
        step = costs.step(offer, part)
        groups = chosen_groups(link, step, options.readers, offer.layers, options.batch)
        names = {"chunkwise": (offer.layers,), "layerwise": groups} if part == offer.chunks else {"hybrid": groups}
        for name, sizes in names.items():
            factor = wrong[name] or (median_low(known) if known else 1.0)
            yield Way(name, part, sizes, factor * expected(link, step, options.readers, options.batch, sizes))


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


def _wrong(seen: Sequence[Seen], options: AutoOptions, offer: Offer, costs: Costs, link: Link) -> float | None:
    """The median of seconds that loads took over those expected of them; None of none."""
    ratios = []
    for one in seen:
        by_costs = expected(link, costs.seen_step(offer, one), options.readers, options.batch, one.groups)
        if by_costs > 0:
            ratios.append((one.compute_s + one.waited_s) / by_costs)
    return median_low(ratios) if ratios else None


def _as_choice(way: Way, options: AutoOptions, why: str) -> Choice:
    return Choice(way.chunks, how=way.how(options.readers), why=why)


def _reason(best: Way, ways: Sequence[Way], costs: Costs) -> str:
    """The expected times, and what they are made of."""
    others = " and ".join(f"{_ms(way.seconds)} by {way.name}" for way in ways if way is not best)
    return f"{_ms(best.seconds)} expected{f', against {others}' if others else ''}: {costs.in_words}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
