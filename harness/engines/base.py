"""The contract of an engine: one forward step at a time.

Add an engine by writing one file here (or in a package of your own, see docs/extending.md):
a subclass of Engine with a ``name``, an ``Options`` model, and the three calls below.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.core.chunks import LoadRequest
from harness.core.options import Options
from harness.core.spans import Recorder
from harness.engines.paged import PagedKV
from harness.stores.base import Store


class EngineOptions(Options):
    """An engine's settings; each engine declares its own."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Reads of one load that were of ``bytes`` each: how many, the median of their seconds, and how many reads of any size
    were under way meanwhile, themselves among them."""

    bytes: int
    count: int
    seconds: float
    at_once: float = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one load showed: seconds until its last byte, and seconds of the forward beside it without its waits.

    ``tokens``: of all requests of the step, ``number``: of the arm's loads; the connector fills both in. ``waited_s``: those
    waits. ``how``: as in the load's requests. ``groups``: layers that came together. ``calls``: its reads by size. ``timed``:
    false where the host's clock shows when the forward was queued and not how long it took.
    """

    chunks: int
    load_s: float
    compute_s: float
    tokens: int = 0
    waited_s: float = 0.0
    how: str = ""
    groups: tuple[int, ...] = ()
    calls: tuple[Calls, ...] = ()
    timed: bool = True
    number: int = 0

    @property
    def way(self) -> str:
        """The engine that ``how`` names; empty where it names none."""
        return self.how.partition(":")[0]

    @property
    def rate(self) -> float:
        """Bytes a second of all its reads together."""
        return sum(call.bytes * call.count for call in self.calls) / max(self.load_s, 1e-9)

    @property
    def beside(self) -> int:
        """Reads beside the forward: all but those of the first group, for which it waits."""
        count = sum(call.count for call in self.calls)
        return count - count // len(self.groups) if self.groups else 0


@dataclass(frozen=True, slots=True)
class Offer:
    """One request of which the store holds the first ``chunks`` chunks. ``seen``: the arm's newest loads, oldest first.

    ``layers`` of ``layer_bytes`` in the store make a chunk; 0 where that is not known. ``number``: of requests that the arm was
    asked about before. ``beside_chunks`` and ``beside_tokens``: loaded and computed in the same step for others. ``step_tokens``:
    that a step computes at most, so that a load hides behind no more of them; 0: no limit. ``others``: requests that vLLM has
    begun and not finished, whatever they do; a load within a step holds up their tokens.
    """

    chunks: int
    chunk_tokens: int
    prompt_tokens: int
    seen: Sequence[Seen] = ()
    layers: int = 0
    layer_bytes: int = 0
    number: int = 0
    beside_chunks: int = 0
    beside_tokens: int = 0
    step_tokens: int = 0
    others: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """How one request is served.

    ``chunks``: of those offered, counted from the first, how many become the hit; vLLM computes the rest.
    ``between_steps``: load them before the request's first step and not within it. ``how``: the engine's own words to itself,
    which come with the request's ``LoadRequest``. ``why``: the reason, for people; kept with the lookup.
    """

    chunks: int
    between_steps: bool = False
    how: str = ""
    why: str = ""


class Engine(ABC):
    """Fetches stored chunks into the paged KV cache for one forward step after the other.

    The connector calls ``begin_load`` before the forward, ``wait_layer(i)`` just before layer i's
    attention for i = 0, 1, ..., and ``end_load`` after the forward, always from one thread. When
    ``wait_layer(i)`` returns, layer i of every request of the batch is in the paged cache (on CUDA:
    will be, for all work queued later on the current stream), or its blocks will be in what
    ``end_load`` returns.
    """

    name: ClassVar[str] = ""
    Options: ClassVar[type[EngineOptions]] = EngineOptions
    grants_hits: ClassVar[bool] = True
    """False for an arm that asks vLLM to compute everything."""
    loads_kv: ClassVar[bool] = True
    """False for an arm that moves no KV, so that its tokens mean nothing (or need no KV)."""
    blocks_in_begin: ClassVar[bool] = True
    """False where ``begin_load`` only starts fetches: such engines begin before the blocking ones of a step."""

    @classmethod
    def choose(cls, options: EngineOptions, offer: Offer) -> Choice:
        """How the request is served; all of the offered chunks unless an engine knows better.

        Asked in the scheduler's process, once per request. Pure: it knows only what it is given.
        """
        return Choice(offer.chunks)

    @classmethod
    def adapts(cls, options: EngineOptions) -> bool:
        """Whether ``choose`` depends on what was seen, so that nobody can know a hit before it is granted."""
        return False

    @classmethod
    def learns(cls, options: EngineOptions) -> int:
        """How many loads it takes until ``choose`` goes by what was seen; 0: it never does."""
        return 0

    @classmethod
    def explores(cls, options: EngineOptions) -> float:
        """The share of requests for which ``choose`` takes another way than the best, to see whether it still is."""
        return 0.0

    def __init__(self, store: Store, cache: PagedKV, options: EngineOptions, recorder: Recorder) -> None:
        self.store = store
        self.cache = cache
        self.options = options
        self.recorder = recorder

    @abstractmethod
    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """Fetch, or begin to fetch, all chunks of the batch. Never raises for a chunk that cannot be
        had: its blocks are failures, and ``end_load`` names them."""

    @abstractmethod
    def wait_layer(self, layer: int) -> None:
        """Return when ``layer`` of the batch may be attended to. A cheap no-op when nothing is loading."""

    @abstractmethod
    def end_load(self) -> frozenset[int]:
        """Finish the step: wait for what is still under way, and return the ids of blocks that could
        not be filled (whole chunks of them). Empty when nothing was loading."""

    def saw(self) -> Seen | None:
        """What the load that ``end_load`` has just ended showed, for ``choose``; None: nothing to tell."""
        return None

    def close(self) -> None:  # noqa: B027
        """Stop threads and loops. Safe to call twice."""


@dataclass(frozen=True, slots=True)
class Released:
    """A request that may join a step. ``failed``: ids of its blocks that could not be filled (whole chunks of them)."""

    request: str
    failed: frozenset[int] = frozenset()


class BetweenSteps(Engine):
    """An engine that also loads between steps, for requests whose ``Choice`` says so.

    Such a request is no part of a step until the engine has released it: the connector calls ``begin_between`` before the
    forward of some step (an empty one too), asks ``released`` after each step, and calls ``join`` before the forward of
    the step in which the request computes. ``wait_layer`` and ``end_load`` of that step are for it as well. All from the
    thread of the forward.
    """

    @abstractmethod
    def begin_between(self, batch: Sequence[LoadRequest]) -> None:
        """Begin to fetch, and return at once."""

    @abstractmethod
    def released(self) -> Sequence[Released]:
        """The requests released since the last call, each one once, also if nothing of it could be had or it was dropped.

        With ``failed`` blocks only when nothing of the request is under way any more. What fails after its release is
        named by ``end_load`` of the step that it joins.
        """

    @abstractmethod
    def join(self, requests: Collection[str]) -> None:
        """These requests compute in the coming step."""

    @abstractmethod
    def drop(self, requests: Collection[str]) -> None:
        """Nobody wants these any more: begin no more reads for them. A request that is unknown or has joined is ignored."""

    @abstractmethod
    def settle(self, blocks: Collection[int]) -> None:
        """Return when nothing that was begun before writes to these blocks: somebody else is about to."""
