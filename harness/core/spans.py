"""Spans: where time went. Engines record them, the span log of one process keeps them: JSON lines in a folder.

{"kind": "lookup", "label", "start_s", "end_s", "hit_tokens"}
{"kind": "load", "label", "rank", "arm", "start_s", "end_s", "stall_s", "operations", "keys", "bytes",
 "failed_blocks", "spans": [[kind, layer, start_s, end_s, bytes, keys], ...], "proof": [[key, layer, xxh3], ...] | null}
{"kind": "save", "key", "start_s", "end_s", "checksums": [xxh3 a layer]}
{"kind": "save_error", "key", "error"}
{"kind": "start", "geometry": {...}, "identity": {...}, "blocks": n, "direct": true | false, "torch_threads": n}
"""

import errno
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

logger = logging.getLogger("vllm.ttft")

LONGEST_LOG = 1 << 30
"""Bytes at which a span log begins anew: a server writes about 10 KiB per traced request, for months."""


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


@dataclass(frozen=True, slots=True)
class DeviceSpan:
    """A span whose ends are marks in a device's streams, of which it has no time before it has come to them."""

    kind: str
    layer: int
    before: Any
    after: Any
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
    device_spans: list[DeviceSpan] = field(default_factory=list)

    def add(self, span: Span) -> None:
        """Note a span."""
        if self.enabled:
            self.spans.append(span)

    def take(self) -> list[Span]:
        """All spans since the last call."""
        taken, self.spans = self.spans, []
        return taken

    def add_device(self, span: DeviceSpan) -> None:
        """Note a span of a device."""
        if self.enabled:
            self.device_spans.append(span)

    def take_device(self) -> list[DeviceSpan]:
        """All spans of a device since the last call."""
        taken, self.device_spans = self.device_spans, []
        return taken


Fact = str | bool | int | FiniteFloat | None
"""What a process or a server tells of itself; never nested, or whoever reads it again could be led anywhere."""

_Count = Annotated[int, Field(ge=1, le=2**20)]


class _Geometry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    layers: _Count
    block_tokens: _Count
    block_bytes: Annotated[int, Field(ge=1, le=2**40)]
    chunk_blocks: _Count
    dtype: str


class _Identity(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Fact]

    model: str
    dtype: str
    world: _Count
    layout: Literal["chunk", "layer"] = "chunk"


class StartRecord(BaseModel):
    """What stands in a record of kind ``start``, whoever wrote it: the file may lie on another machine, or be told by a server.

    A peer's has no geometry and no identity.
    """

    model_config = ConfigDict(strict=True)

    geometry: _Geometry | None = None
    identity: _Identity | None = None
    direct: bool | None = None
    torch_threads: int | None = None
    window: Annotated[int, Field(ge=0, le=2**40)] = 0
    save_threads: int = 0
    engine: dict[str, Fact] = {}

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.geometry is None) != (self.identity is None):
            raise ValueError("geometry and identity belong together")
        return self


PEER_FOLDER = "TTFT_PEER_SPAN_LOG"
"""The variable that tells harness/connector/peers/adapters/traced.py its folder; that file lists its records."""


class SpanLog:
    """Appends to ``<folder>/<name>.jsonl``; does nothing without a folder.

    It never raises once it is open: the forward of a server must not end because a disk is full. What cannot be written
    is dropped whole and counted, and a load without its record is no proven one. A log of ``limit`` bytes moves to
    ``<name>.jsonl.1``, in place of the one there, and begins anew with the record of its start.
    """

    def __init__(self, folder: str, name: str, limit: int = LONGEST_LOG) -> None:
        self._path = Path(folder) / f"{name}.jsonl" if folder else None
        self._limit = limit
        self._head = b""
        self.dropped = 0
        self._file = self._path.open("ab", buffering=0) if self._path is not None else None

    @property
    def enabled(self) -> bool:
        """Whether anybody reads this."""
        return self._file is not None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record and hand it to the operating system."""
        if self._file is None or self._file.closed:  # a save that outlives the server has nobody to tell
            return
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if record.get("kind") == "start":
            self._head = line
        try:
            if self._file.tell() + len(line) > self._limit and self._file.tell() > len(self._head):
                self._rotate()
            self._append(line)
        except OSError as error:
            if not self.dropped:
                logger.error("the span log %s cannot be written (%s): records are dropped", self._path, error.strerror)
            self.dropped += 1

    def _append(self, line: bytes) -> None:
        """The whole line or nothing of it: half a line would spoil the next one."""
        assert self._file is not None
        begin = self._file.tell()
        if self._file.write(line) != len(line):
            self._file.truncate(begin)
            self._file.seek(begin)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self) -> None:
        assert self._file is not None
        assert self._path is not None
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file.close()
        self._file = self._path.open("ab", buffering=0)
        if self._head:
            self._append(self._head)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()
