"""Part of the hit is loaded, the rest is computed: the first k chunks come layer by layer beside the forward over the others.

Loading and computing run at the same time, so the best k is the one with which both end together. vLLM takes a hit only from
the front, so it is the first chunks that are loaded; Cake (arXiv 2410.03065) loads the last ones.
"""

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from harness.core.chunks import LoadRequest
from harness.core.recurrence import Line, chunks_to_load
from harness.core.spans import Recorder
from harness.engines.base import EngineOptions, Offer, Seen
from harness.engines.fetch import Piece
from harness.engines.layerwise import Layerwise, LayerwiseOptions
from harness.engines.paged import PagedKV
from harness.stores.base import Store

Chunks = Annotated[int, Field(ge=1)] | Literal["cost"]


class HybridOptions(LayerwiseOptions):
    """Options of ``hybrid``: those of ``layerwise``, and how much of a hit is loaded."""

    depth: int = Field(4096, ge=1, le=4096, description="layers in flight or in place ahead of the layer that is computed")
    k: Chunks = Field(
        "cost",
        description="chunks that are loaded, all of a hit that has fewer; 'cost' = as many as come while the rest is computed, "
        "by the arm's loads so far: the first loads all and the second half, to learn what a chunk and a token take; "
        "on a GPU each loads all",
    )
    share: float = Field(0.0, ge=0, le=1, description="share of a hit's chunks that is loaded, at least one; 0: as k says")

    @model_validator(mode="after")
    def _one_of_both(self) -> "HybridOptions":
        if self.share and isinstance(self.k, int):
            raise ValueError(f"k={self.k} and share={self.share} both say how much is loaded; give one of them")
        return self


class Hybrid(Layerwise):
    """Fetches the first chunks of a hit as ``layerwise`` does, and has the model compute the rest."""

    name = "hybrid"
    Options = HybridOptions

    @classmethod
    def chunks_to_load(cls, options: EngineOptions, offer: Offer) -> int:
        """As the options say, at least one: what is never loaded is never measured."""
        assert isinstance(options, HybridOptions)
        if options.share:
            return max(1, round(options.share * offer.chunks))
        if isinstance(options.k, int):
            return min(options.k, offer.chunks)
        return by_cost(offer)

    @classmethod
    def adapts(cls, options: EngineOptions) -> bool:
        """Only by cost."""
        assert isinstance(options, HybridOptions)
        return options.k == "cost" and not options.share

    def __init__(self, store: Store, cache: PagedKV, options: HybridOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        self._chunks = 0
        self._last_s = 0.0
        self._last_load: Seen | None = None

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """As ``layerwise``."""
        self._chunks, self._last_load = sum(len(request.chunks) for request in batch), None
        super().begin_load(batch)

    def _done(self, group: int, failed: Sequence[Piece], chunks: int, start: float) -> None:
        self._last_s = time.perf_counter()
        super()._done(group, failed, chunks, start)

    def end_load(self) -> frozenset[int]:
        """As ``layerwise``."""
        forward_s = time.perf_counter() - self._begun_s - self._waited_s
        failed = super().end_load()
        # On a device the host's clock shows when work was queued and not how long it took, so nothing is claimed there.
        if self._chunks and self.cache.memory == "host":
            self._last_load = Seen(self._chunks, self._last_s - self._begun_s, forward_s)
        self._chunks = 0
        return failed

    def saw(self) -> Seen | None:
        """The load's time and the forward's."""
        return self._last_load


def by_cost(offer: Offer) -> int:
    """All before anything was seen; half as long as a line through what was seen needs a second point; then the best."""
    if not offer.seen:
        return offer.chunks
    load = _line(offer.seen, lambda one: one.chunks, lambda one: one.load_s)
    compute = _line(offer.seen, lambda one: one.tokens, lambda one: one.compute_s)
    if load is None or compute is None:
        return max(1, offer.chunks // 2)
    return chunks_to_load(offer.chunks, offer.chunk_tokens, offer.prompt_tokens, load, compute)


def _line(seen: Sequence[Seen], size: Callable[[Seen], int], seconds: Callable[[Seen], float]) -> Line | None:
    """The straight line through the median time of each size, since single loads stall; None of fewer than two sizes.

    A line that falls is noise about one that is level; one that begins below 0 is taken to begin at 0.
    """
    by_size: dict[int, list[float]] = {}
    for one in seen:
        by_size.setdefault(size(one), []).append(seconds(one))
    if len(by_size) < 2:
        return None
    sizes, medians = np.array(list(by_size), float), np.array([float(np.median(times)) for times in by_size.values()])
    slope, start = (float(value) for value in np.polyfit(sizes, medians, 1))
    if slope <= 0:
        return Line(float(medians.mean()), 0.0)
    return Line(start, slope) if start >= 0 else Line(0.0, float(medians.sum() / sizes.sum()))
