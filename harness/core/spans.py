"""Spans: where time went. Engines record them, the span log of one process keeps them: JSON lines in a folder.

{"kind": "lookup", "label", "start_s", "end_s", "hit_tokens"}
{"kind": "load", "label", "rank", "arm", "start_s", "end_s", "stall_s", "operations", "keys", "bytes",
 "failed_blocks", "spans": [[kind, layer, start_s, end_s, bytes, keys], ...], "proof": [[key, layer, xxh3], ...] | null}
{"kind": "save", "key", "start_s", "end_s", "checksums": [xxh3 a layer]}
{"kind": "save_error", "key", "error"}
{"kind": "start", "geometry": {...}, "identity": {...}, "blocks": n, "direct": true | false, "torch_threads": n}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time. ``layer`` is -1 where it concerns all layers.

    ``kind``: ``lookup`` (asking the store what it holds), ``fetch`` (one read, from its start to
    its last byte), ``copy`` (staging to the paged cache), ``wait`` (the forward standing still),
    ``forward`` (from the end of the loads' blocking part to the end of the step).
    """

    kind: str
    layer: int
    start_s: float
    end_s: float
    bytes: int = 0
    keys: int = 0
    request: str = ""


@dataclass(slots=True)
class Recorder:
    """Spans in the order in which they ended. ``list.append`` is atomic, so reader threads share one without a lock.

    ``enabled=False`` (serving without a span log) makes it a no-op.
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


PEER_FOLDER = "TTFT_PEER_SPAN_LOG"
"""The variable that tells harness/connector/peers/adapters/traced.py its folder; that file lists its records."""


class SpanLog:
    """Appends to ``<folder>/<name>.jsonl``; does nothing without a folder."""

    def __init__(self, folder: str, name: str) -> None:
        self._file = (Path(folder) / f"{name}.jsonl").open("a", encoding="utf-8") if folder else None

    @property
    def enabled(self) -> bool:
        """Whether anybody reads this."""
        return self._file is not None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record and hand it to the operating system."""
        if self._file is not None:
            self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()
