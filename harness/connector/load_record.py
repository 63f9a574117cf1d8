"""What the span log keeps of one request's load."""

from collections.abc import Collection, Sequence
from typing import Any

from harness.connector.step import Load
from harness.core.spans import Span


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
