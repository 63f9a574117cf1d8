"""What the connector counts at the server's /metrics, where a client that cannot read the span log sees it.

Workers count blocks that could not be loaded; the scheduler's half counts how arms that choose have loaded their requests; each
process tells whether it skips the store because it keeps failing (harness/stores/skipping.py).
"""

from collections.abc import Mapping
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

from harness.replay.prometheus import CHOICES, FAILED_BLOCKS, STORE_SKIPPING, STORE_SKIPS
from harness.stores.skipping import Skipping

FAILED = "failed_blocks"
SKIPS = "store_skips"
SKIPPING = "store_skipping"
CHOSEN = "choices"
PLAIN = (FAILED, SKIPS, SKIPPING)


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


class Counts(KVConnectorStats):  # type: ignore[misc]
    """Counts since the last time that vLLM asked, all ranks together: plain ones, and ``choices`` by arm and way."""

    @classmethod
    def of(cls, plain: Mapping[str, int], choices: Mapping[tuple[str, str], int] | None = None) -> "Counts | None":
        """None where there is nothing to tell."""
        by_arm: dict[str, dict[str, int]] = {}
        for (arm, way), count in (choices or {}).items():
            by_arm.setdefault(arm, {})[way] = count
        data: dict[str, Any] = {key: count for key, count in plain.items() if count} | ({CHOSEN: by_arm} if by_arm else {})
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
        plain = {key: self.data.get(key, 0) + other.data.get(key, 0) for key in PLAIN if key in {*self.data, *other.data}}
        return Counts(data=plain | ({CHOSEN: choices} if choices else {}))

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's log."""
        ways = {f"{arm} by {way}": count for arm, ways in self.data.get(CHOSEN, {}).items() for way, count in ways.items()}
        return {key: self.data[key] for key in PLAIN if key in self.data} | ways

    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not any(self.data.values())


class CountsMetric(KVConnectorPromMetrics):  # type: ignore[misc]
    """The metrics, each once per engine. Plain ones stand at 0 from the start: a client can tell none from not counted."""

    def __init__(self, config: Any, types: Any, labels: list[str], values: dict[int, list[object]]) -> None:
        super().__init__(config, types, labels, values)
        blocks = self._counter_cls(
            name=FAILED_BLOCKS.removesuffix("_total"),
            documentation="KV blocks that the connector could not load",
            labelnames=labels,
        )
        skips = self._counter_cls(
            name=STORE_SKIPS.removesuffix("_total"),
            documentation="Times that a process began to skip the store because it kept failing",
            labelnames=labels,
        )
        skipping = self._gauge_cls(
            name=STORE_SKIPPING,
            documentation="Processes that skip the store now: the scheduler, and each rank's worker",
            labelnames=labels,
        )
        self._plain = {
            engine: {FAILED: blocks.labels(*own), SKIPS: skips.labels(*own), SKIPPING: skipping.labels(*own)}
            for engine, own in values.items()
        }
        self._values = values
        self._choices = self._counter_cls(
            name=CHOICES.removesuffix("_total"),
            documentation="Requests with a hit, by how their arm chose to load them",
            labelnames=[*labels, "arm", "how"],
        )

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Take in one step's counts."""
        for key, metric in self._plain[engine_idx].items():
            metric.inc(transfer_stats_data.get(key, 0))
        for arm, ways in transfer_stats_data.get(CHOSEN, {}).items():
            for way, count in ways.items():
                self._choices.labels(*self._values[engine_idx], arm, way).inc(count)
