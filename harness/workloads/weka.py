"""WEKA's agentic coding traces: conversations of coding agents with the block ids of every request.

The format (github.com/callanjfox/kv-cache-tester, docs/trace_replay_tester.md, and its traces/): one JSON object per
conversation with ``id``, ``block_size`` (64), perhaps ``hash_id_scope`` (``local``: ids mean something inside the
conversation only, which is so if it is missing; ``global``) and ``requests``, each with ``t`` (seconds from the start of
the conversation), ``type`` (``s`` or ``n``: streamed or not), ``in``, ``out`` and ``hash_ids``; an entry of type
``subagent`` has requests of its own. Read are one conversation per file, an array of them, and objects one after the other,
as SemiAnalysis publishes them.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from harness.core.options import Listed
from harness.workloads._array import read_items
from harness.workloads._blocks import BlockReader, BlockTrace, BlockTraceOptions, Format, TraceLine, check_whole_blocks
from harness.workloads._clock import LATEST
from harness.workloads._lines import bad_line, validated
from harness.workloads._trace import MOST_TOKENS, TraceRequest
from harness.workloads.base import Limits, WorkloadOptions

_SCOPE = 1 << 64
"""Ids of one conversation lie below it; those of the next above."""


class WekaRequest(BaseModel):
    """One request, or a subagent with its own. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    t: float = Field(ge=0, le=LATEST, allow_inf_nan=False)
    type: Literal["s", "n", "subagent"]
    tokens: int = Field(0, alias="in", ge=0, le=MOST_TOKENS)
    output: int = Field(0, alias="out", ge=0, le=MOST_TOKENS)
    hash_ids: Listed[int] = Field(default=[])
    requests: Listed["WekaRequest"] = Field(default=[])


class WekaConversation(BaseModel):
    """One conversation."""

    model_config = ConfigDict(frozen=True)

    block_size: int = Field(ge=1, le=MOST_TOKENS)
    hash_id_scope: Literal["local", "global"] = "local"
    requests: Listed[WekaRequest]


class _Names(TraceLine):
    """What the format calls the fields of a line, for messages."""

    model_config = ConfigDict(
        alias_generator={"timestamp": "t", "input_length": "in", "output_length": "out", "hash_ids": "hash_ids"}.__getitem__
    )


class WekaOptions(BlockTraceOptions):
    """Options of ``weka``."""

    block_size: int = Field(64, ge=1, validate_default=True, description="tokens behind one hash id, as the trace says")

    @field_validator("block_size")
    @classmethod
    def _whole_blocks(cls, size: int, info: ValidationInfo) -> int:
        check_whole_blocks(info.data.get("scale", 1.0), size)
        return size


class Weka(BlockTrace):
    """Agents' conversations in WEKA's format (JSON), those of one file side by side, all beginning at 0 s.

    Requests of a subagent come at their own times, which count from the subagent's start if they lie before it.
    """

    name: ClassVar[str] = "weka"
    Options: ClassVar[type[WorkloadOptions]] = WekaOptions
    options: WekaOptions
    counted: ClassVar[str] = "request"

    @property
    def format(self) -> Format:
        """As published; the ids may stop before the prompt does."""
        return Format(self.options.block_size, 1.0, _Names, partial=True)

    def _read(self, limits: Limits) -> Iterator[TraceRequest]:
        path, blocks = self.options.path, BlockReader(self.options.path, self.format)
        timed: list[tuple[float, int, WekaRequest, int]] = []
        for index, (line, item) in enumerate(read_items(path)):
            conversation = validated(path, line, item, WekaConversation)
            if conversation.block_size != self.options.block_size:
                problem = f"block_size={conversation.block_size}, and {self.options.block_size} was expected"
                raise bad_line(path, line, problem, f"give block_size={conversation.block_size}")
            scope = index * _SCOPE if conversation.hash_id_scope == "local" else 0
            timed += ((time, line, request, scope) for time, request in _flat(conversation.requests, 0.0))
        timed.sort(key=lambda one: one[0])
        for number, (time, line, request, scope) in enumerate(timed, start=1):
            ids = tuple(scope + name % _SCOPE for name in request.hash_ids)
            if -(-request.tokens // self.options.block_size) < len(ids):
                problem = f"hash_ids has {len(ids)} entries, too many for in={request.tokens}"
                raise bad_line(path, line, problem, f"give one id for each {self.options.block_size} tokens begun")
            yield blocks.request(number, time, request.tokens, request.output, ids)


def _flat(requests: list[WekaRequest], start: float) -> Iterator[tuple[float, WekaRequest]]:
    """(seconds, request) of each request, those of subagents among them."""
    earliest = min((request.t for request in requests), default=0.0)
    offset = start if earliest < start else 0.0
    for request in requests:
        if request.type == "subagent":
            yield from _flat(request.requests, offset + request.t)
        elif request.tokens:
            yield offset + request.t, request
