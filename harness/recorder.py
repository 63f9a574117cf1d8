"""Where engines put what they saw: spans and counters, kept in memory until somebody takes them."""

from dataclasses import dataclass, field

from harness.types import Span


@dataclass(slots=True)
class Counters:
    """What a retrieval asked of the store: calls, keys named in them, bytes fetched."""

    operations: int = 0
    keys: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Recorder:
    """Spans and counters by request. ``list.append`` is atomic, so reader threads share one without a lock.

    ``enabled=False`` (serving) makes every call a no-op.
    """

    enabled: bool = True
    spans: list[Span] = field(default_factory=list)

    def span(self, kind: str, layer: int, start_s: float, end_s: float, size: int = 0, request: str = "") -> None:
        """Note a span; times on ``time.perf_counter``'s clock, size in bytes."""
        if self.enabled:
            self.spans.append(Span(kind, layer, start_s, end_s, size, request))

    def take(self) -> list[Span]:
        """All spans since the last call."""
        taken, self.spans = self.spans, []
        return taken
