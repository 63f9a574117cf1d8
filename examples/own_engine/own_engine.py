"""An engine outside the harness: layerwise, but every load begins late.

It is the regression that a gate has to find: benchmarks/gate_real.py injects it, docs/gate.md has the numbers.
"""

import time
from collections.abc import Sequence

from pydantic import Field

from harness.core.chunks import LoadRequest
from harness.core.spans import Recorder
from harness.engines.layerwise import Layerwise, LayerwiseOptions
from harness.engines.paged import PagedKV
from harness.stores.base import Store


class DelayedOptions(LayerwiseOptions):
    """Options of ``delayed``: those of ``layerwise`` and one more."""

    delay_ms: float = Field(10.0, ge=0, description="how long a step with a load waits before it begins, milliseconds")


class Delayed(Layerwise):
    """``layerwise``, ``delay_ms`` later."""

    name = "delayed"
    Options = DelayedOptions

    def __init__(self, store: Store, cache: PagedKV, options: DelayedOptions, recorder: Recorder) -> None:
        super().__init__(store, cache, options, recorder)
        self._delay_s = options.delay_ms / 1e3

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """Wait, then do as ``layerwise`` does."""
        if batch:
            time.sleep(self._delay_s)
        super().begin_load(batch)


__all__ = ["Delayed", "DelayedOptions"]
