"""Reading a trace in Mooncake's format.

The format (github.com/kvcache-ai/Mooncake, FAST25-release): one object a line, with ``timestamp`` (ms from the
start of the trace), ``input_length``, ``output_length`` and ``hash_ids``, one id a 512-token block, the last
block perhaps partial. Equal ids mean equal blocks behind equal prefixes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from harness.workloads._lines import bad_line, read_lines
from harness.workloads.ideal import SeenBlocks

BLOCK_TOKENS = 512
"""Tokens behind one hash id, before scaling."""


class TraceLine(BaseModel):
    """One request of a trace. Fields that other traces add are ignored."""

    model_config = ConfigDict(frozen=True)

    timestamp: float = Field(ge=0, allow_inf_nan=False)
    input_length: int = Field(ge=1)
    output_length: int = Field(ge=0)
    hash_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One line, its number in the file, and its ideal hit in tokens of the trace, before scaling."""

    number: int
    line: TraceLine
    hit: int

    @property
    def hit_share(self) -> float:
        """Ideal hit as a share of the prompt, 0 to 1."""
        return self.hit / self.line.input_length


def read_trace(path: str) -> Iterator[TraceRequest]:
    """The requests of a trace in order, each with its ideal hit given all earlier ones; reads as far as asked.

    Raises UsageError with path and line number where a line is malformed, has another number of ids than
    its length needs, or goes back in time.
    """
    seen = SeenBlocks(BLOCK_TOKENS)
    latest = 0.0
    for number, line in read_lines(path, TraceLine):
        blocks = -(-line.input_length // BLOCK_TOKENS)
        if len(line.hash_ids) != blocks:
            problem = f"hash_ids has {len(line.hash_ids)} entries, but input_length={line.input_length} makes {blocks} blocks"
            raise bad_line(path, number, problem, f"give one id for each {BLOCK_TOKENS} tokens begun")
        if line.timestamp < latest:
            problem = f"timestamp={line.timestamp:g} lies before the {latest:g} of an earlier line"
            raise bad_line(path, number, problem, "sort the trace by time")
        latest = line.timestamp
        yield TraceRequest(number, line, seen.visit(line.hash_ids, line.input_length))
