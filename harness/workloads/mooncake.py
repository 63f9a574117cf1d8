"""Mooncake's trace format: real arrivals, lengths and sharing, with synthesised tokens.

The format (github.com/kvcache-ai/Mooncake, FAST25-release): one object a line, with ``timestamp`` (ms from the
start of the trace), ``input_length``, ``output_length`` and ``hash_ids``, one id a 512-token block, the last
block perhaps partial. Equal ids mean equal blocks behind equal prefixes.
"""

from typing import ClassVar

from pydantic import field_validator

from harness.workloads._blocks import BlockTrace, BlockTraceOptions, Format, check_whole_blocks
from harness.workloads.base import WorkloadOptions

MOONCAKE = Format(block_tokens=512, seconds=0.001)


class MooncakeOptions(BlockTraceOptions):
    """Options of ``mooncake``."""

    @field_validator("scale")
    @classmethod
    def _whole_blocks(cls, scale: float) -> float:
        check_whole_blocks(scale, MOONCAKE.block_tokens)
        return scale


class Mooncake(BlockTrace):
    """A trace in Mooncake's format; ``scale`` must keep its 512-token blocks whole: a multiple of 1/512."""

    name: ClassVar[str] = "mooncake"
    Options: ClassVar[type[WorkloadOptions]] = MooncakeOptions
    options: MooncakeOptions

    @property
    def format(self) -> Format:
        """As published."""
        return MOONCAKE
