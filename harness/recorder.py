"""Where engines put what they saw, kept in memory until somebody takes it."""

from dataclasses import dataclass, field

from harness.types import Span


@dataclass(slots=True)
class Recorder:
    """Spans in the order in which they ended. ``list.append`` is atomic, so reader threads share one without a lock.

    ``enabled=False`` (serving without a trace) makes it a no-op.
    """

    enabled: bool = True
    spans: list[Span] = field(default_factory=list)

    def add(self, span: Span) -> None:
        """Note a span."""
        if self.enabled:
            self.spans.append(span)

    def take(self) -> list[Span]:
        """All spans since the last call."""
        taken, self.spans = self.spans, []
        return taken
