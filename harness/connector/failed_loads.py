"""Blocks that could not be loaded, as a counter at the server's /metrics: a client that cannot read the span log sees it."""

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

from harness.replay.prometheus import FAILED_BLOCKS

NAME = FAILED_BLOCKS.removesuffix("_total")
KEY = "failed_blocks"


class FailedLoads(KVConnectorStats):  # type: ignore[misc]
    """Counts since the last time that vLLM asked, all ranks together."""

    def reset(self) -> None:
        """Begin from nothing."""
        self.data: dict[str, int] = {}

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Add what another rank or a later step counted."""
        return FailedLoads(data={KEY: self.data.get(KEY, 0) + other.data.get(KEY, 0)})

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's log."""
        return dict(self.data)

    def is_empty(self) -> bool:
        """Whether nothing failed."""
        return not self.data.get(KEY)


class FailedLoadsMetric(KVConnectorPromMetrics):  # type: ignore[misc]
    """The counter, one per engine. It stands at 0 from the start: a client can tell none from not counted."""

    def __init__(self, config: Any, types: Any, labels: list[str], values: dict[int, list[object]]) -> None:
        super().__init__(config, types, labels, values)
        counter = self._counter_cls(name=NAME, documentation="KV blocks that the connector could not load", labelnames=labels)
        self._counters = {engine: counter.labels(*own) for engine, own in values.items()}

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Take in one step's count."""
        self._counters[engine_idx].inc(transfer_stats_data.get(KEY, 0))
