"""The lower bound: the hit is granted, nothing is loaded. Its KV is not real, and neither are its tokens."""

from collections.abc import Sequence

from harness.core.chunks import LoadRequest
from harness.engines.base import Engine


class Floor(Engine):
    """What TTFT would be if loading cost nothing."""

    name = "floor"
    loads_kv = False

    def begin_load(self, batch: Sequence[LoadRequest]) -> None:
        """Load nothing."""

    def wait_layer(self, layer: int) -> None:
        """Nothing to wait for."""

    def end_load(self) -> frozenset[int]:
        """Nothing can fail."""
        return frozenset()
