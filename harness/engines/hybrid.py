"""Part of the hit is loaded, the rest is computed: the first k chunks come layer by layer beside the forward over the others.

Loading and computing run at the same time, so the best k is the one with which both end together. vLLM takes a hit only from
the front, so it is the first chunks that are loaded; Cake (arXiv 2410.03065) loads the last ones.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.engines.base import Choice, EngineOptions, Offer
from harness.engines.costs import fitted
from harness.engines.layerwise import Layerwise, LayerwiseOptions, in_groups

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
    def choose(cls, options: EngineOptions, offer: Offer) -> Choice:
        """As the options say, at least one chunk: what is never loaded is never measured."""
        assert isinstance(options, HybridOptions)
        if options.share:
            choice = Choice(max(1, round(options.share * offer.chunks)))
        elif isinstance(options.k, int):
            choice = Choice(min(options.k, offer.chunks))
        else:
            choice = _by_cost(offer)
        return in_groups(choice, cls.name, options, offer)

    @classmethod
    def adapts(cls, options: EngineOptions) -> bool:
        """Only by cost."""
        assert isinstance(options, HybridOptions)
        return options.k == "cost" and not options.share

    @classmethod
    def learns(cls, options: EngineOptions) -> int:
        """Two loads by cost: all and half."""
        return 2 if cls.adapts(options) else super().learns(options)


def _by_cost(offer: Offer) -> Choice:
    """All before anything was seen; half as long as a line through what was seen needs a second point; then the best."""
    costs = fitted([one for one in offer.seen if one.timed])
    if costs is None:
        part, why = offer.chunks, "nothing is known yet"
    elif (best := costs.part(offer)) is None:
        part, why = max(1, offer.chunks // 2), "half, since one number of chunks does not tell what each takes"
    else:
        reason = "loading and computing end together" if best < offer.chunks else "loading all of it takes the least time"
        part, why = best, f"{reason}: {costs.in_words}"
    return Choice(part, how=f"hybrid:k={part}", why=why)
