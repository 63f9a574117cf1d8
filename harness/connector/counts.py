"""What the connector counts at the server's /metrics, where a client that cannot read the span log sees it.

Workers count blocks that could not be loaded; the scheduler's half counts how arms that choose have loaded their requests.
"""

from collections.abc import Mapping
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

from harness.replay.prometheus import CHOICES, FAILED_BLOCKS

FAILED = "failed_blocks"
CHOSEN = "choices"


class Counts(KVConnectorStats):  # type: ignore[misc]
    """Counts since the last time that vLLM asked, all ranks together: ``failed_blocks``, and ``choices`` by arm and way."""

    @classmethod
    def of(cls, failed: int = 0, choices: Mapping[tuple[str, str], int] | None = None) -> "Counts | None":
        """None where there is nothing to tell."""
        by_arm: dict[str, dict[str, int]] = {}
        for (arm, way), count in (choices or {}).items():
            by_arm.setdefault(arm, {})[way] = count
        data: dict[str, Any] = {**({FAILED: failed} if failed else {}), **({CHOSEN: by_arm} if by_arm else {})}
        return cls(data=data) if data else None

    def reset(self) -> None:
        """Begin from nothing."""
        self.data: dict[str, Any] = {}

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Add what another rank or a later step counted."""
        choices = {arm: dict(ways) for arm, ways in self.data.get(CHOSEN, {}).items()}
        for arm, ways in other.data.get(CHOSEN, {}).items():
            own = choices.setdefault(arm, {})
            for way, count in ways.items():
                own[way] = own.get(way, 0) + count
        failed = self.data.get(FAILED, 0) + other.data.get(FAILED, 0)
        return Counts(data={FAILED: failed, **({CHOSEN: choices} if choices else {})})

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's log."""
        ways = {f"{arm} by {way}": count for arm, ways in self.data.get(CHOSEN, {}).items() for way, count in ways.items()}
        return {**({FAILED: self.data[FAILED]} if FAILED in self.data else {}), **ways}

    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.data.get(FAILED) and not self.data.get(CHOSEN)


class CountsMetric(KVConnectorPromMetrics):  # type: ignore[misc]
    """The counters, one per engine. That of failures stands at 0 from the start: a client can tell none from not counted."""

    def __init__(self, config: Any, types: Any, labels: list[str], values: dict[int, list[object]]) -> None:
        super().__init__(config, types, labels, values)
        name = FAILED_BLOCKS.removesuffix("_total")
        failed = self._counter_cls(name=name, documentation="KV blocks that the connector could not load", labelnames=labels)
        self._failed = {engine: failed.labels(*own) for engine, own in values.items()}
        self._values = values
        self._choices = self._counter_cls(
            name=CHOICES.removesuffix("_total"),
            documentation="Requests with a hit, by how their arm chose to load them",
            labelnames=[*labels, "arm", "how"],
        )

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Take in one step's counts."""
        self._failed[engine_idx].inc(transfer_stats_data.get(FAILED, 0))
        for arm, ways in transfer_stats_data.get(CHOSEN, {}).items():
            for way, count in ways.items():
                self._choices.labels(*self._values[engine_idx], arm, way).inc(count)
