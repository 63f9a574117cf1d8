"""What the span log keeps of one request's lookup and load."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.connector.step import Load, Note
from harness.core.spans import DeviceSpan, Span
from harness.engines.device import DeviceClock


@dataclass(slots=True)
class Outside:
    """A load between steps. ``spans``: its own, of earlier steps; ``written``: it failed, and the span log has it."""

    load: Load
    spans: list[Span] = field(default_factory=list)
    device_spans: list[DeviceSpan] = field(default_factory=list)
    written: bool = False


class StepSpans:
    """What happened in one step. A device's part of it has no times yet while the step is timed, so it is asked later."""

    def __init__(self, spans: Sequence[Span], device_spans: Sequence[DeviceSpan], clock: DeviceClock | None) -> None:
        self._spans, self._device_spans, self._clock = spans, device_spans, clock

    @cached_property
    def all(self) -> Sequence[Span]:
        """With times. Waits for the device."""
        if self._clock is None:
            return self._spans
        host = [span for span in self._spans if span.kind not in ("wait", "forward")]
        return [*host, *(self._clock.span(span) for span in self._device_spans)]


def lookup_record(note: Note) -> dict[str, Any]:
    """The span-log record of one request's lookup. A load between steps tells by its own record how long it
    took, so nothing was waited beside it."""
    record: dict[str, Any] = {
        "kind": "lookup",
        "label": note.label,
        "start_s": note.start_s,
        "end_s": note.end_s,
        "hit_tokens": note.hit_tokens,
        "stored_tokens": note.stored_tokens,
    }
    if note.outside:
        record |= {"outside": True, "waited_s": 0.0}
    if note.how or note.why:
        record |= {"how": note.how, "why": note.why}
    return record


def load_record(load: Load, rank: int, spans: Sequence[Span], invalid: Collection[int]) -> dict[str, Any]:
    """The span-log record of one request's load; the step's waits count for each of its requests."""
    own = [span for span in spans if span.request == load.request.request]
    shared = [span for span in spans if not span.request]
    fetches = [span for span in own if span.kind == "fetch"]
    moves = [span for span in own if span.kind in ("fetch", "copy")]
    return {
        "kind": "load",
        "label": load.label,
        "rank": rank,
        "arm": load.arm,
        "start_s": min((span.start_s for span in moves), default=None),
        "end_s": max((span.end_s for span in moves), default=None),
        "stall_s": sum(span.end_s - span.start_s for span in shared if span.kind == "wait"),
        "operations": len(fetches),
        "keys": sum(span.keys for span in fetches),
        "bytes": sum(span.bytes for span in fetches),
        "failed_blocks": len(set(invalid).intersection(load.request.blocks)),
        "spans": [[s.kind, s.layer, s.start_s, s.end_s, s.bytes, s.keys] for s in [*own, *shared]],
        "proof": None,
    }
