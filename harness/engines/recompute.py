"""The upper bound: no hit is granted, vLLM computes the whole prompt."""

from collections.abc import Sequence

from harness.core.chunks import LoadRequest
from harness.engines.base import Engine


class Recompute(Engine):
    """What TTFT is without a store. Never asked to load anything."""

    name = "recompute"
    grants_hits = False
    loads_kv = False

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """Never called with a request."""

    def wait_layer(self, layer: int) -> None:
        """Nothing to wait for."""

    def end_load(self) -> frozenset[int]:
        """Nothing can fail."""
        return frozenset()
