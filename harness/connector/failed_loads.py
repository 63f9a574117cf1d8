"""What the connector could not do, as metrics at the server's /metrics: a client that cannot read the span log sees it there.

Blocks that could not be loaded, and whether the store is skipped because it keeps failing (harness/stores/skipping.py).
"""

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

from harness.replay.prometheus import FAILED_BLOCKS
from harness.stores.skipping import Skipping

NAME = FAILED_BLOCKS.removesuffix("_total")
KEY = "failed_blocks"
SKIPS = "store_skips"
SKIPPING = "store_skipping"


class Health:
    """What of a store's health has not been told yet. Each process has one for its store."""

    def __init__(self, store: Skipping) -> None:
        self._store = store
        self._told = {SKIPS: 0, SKIPPING: 0}

    def take(self) -> dict[str, int]:
        """The changes since the last call: how often it was skipped, and 1 or -1 where it began or ceased to be."""
        now = {SKIPS: self._store.skips, SKIPPING: int(self._store.skipping)}
        changes = {key: now[key] - told for key, told in self._told.items() if now[key] != told}
        self._told = now
        return changes


class FailedLoads(KVConnectorStats):  # type: ignore[misc]
    """Counts since the last time that vLLM asked, all ranks together."""

    def reset(self) -> None:
        """Begin from nothing."""
        self.data: dict[str, int] = {}

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Add what another rank or a later step counted."""
        return FailedLoads(data={key: self.data.get(key, 0) + other.data.get(key, 0) for key in {*self.data, *other.data}})

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's log."""
        return dict(self.data)

    def is_empty(self) -> bool:
        """Whether nothing failed."""
        return not any(self.data.values())


class FailedLoadsMetric(KVConnectorPromMetrics):  # type: ignore[misc]
    """The metrics, each once per engine. They stand at 0 from the start: a client can tell none from not counted."""

    def __init__(self, config: Any, types: Any, labels: list[str], values: dict[int, list[object]]) -> None:
        super().__init__(config, types, labels, values)
        blocks = self._counter_cls(name=NAME, documentation="KV blocks that the connector could not load", labelnames=labels)
        skips = self._counter_cls(
            name="vllm:ttft_store_skips",
            documentation="Times that a process began to skip the store because it kept failing",
            labelnames=labels,
        )
        skipping = self._gauge_cls(
            name="vllm:ttft_store_skipping",
            documentation="Processes that skip the store now: the scheduler, and each rank's worker",
            labelnames=labels,
        )
        self._each = {
            engine: {KEY: blocks.labels(*own), SKIPS: skips.labels(*own), SKIPPING: skipping.labels(*own)}
            for engine, own in values.items()
        }

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Take in one step's counts."""
        for key, metric in self._each[engine_idx].items():
            metric.inc(transfer_stats_data.get(key, 0))
