"""The traces that vLLM's own benchmark replays with ``--dataset-name timed_trace``, Alibaba's Bailian traces among them.

The format is read from vLLM 0.32, ``TimedTrace`` in vllm/benchmarks/datasets/datasets.py, and its ``--timed-trace-*``
flags, whose names and defaults the options here have: one object per line with a timestamp, an input length, an output
length and hash ids, one id per chunk of 16 tokens (Bailian, github.com/alibaba-edu/qwen-bailian-usagetraces-anon) or
512 (Mooncake). Two differences, both on purpose: tokens come from SHA-256 of the id (vLLM seeds with Python's
``hash`` of a text, which differs from process to process), and where the ids stop before the prompt does, the rest
of the prompt is filled with tokens of its own (vLLM sends a shorter prompt).
"""

from functools import cached_property
from typing import ClassVar

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from harness.workloads._blocks import BlockTrace, BlockTraceOptions, Format, TraceLine, check_whole_blocks
from harness.workloads._clock import ClockUnit
from harness.workloads.base import WorkloadOptions


class TimedTraceOptions(BlockTraceOptions):
    """Options of ``timed_trace``."""

    chunk_hash_size: int = Field(
        16, ge=1, validate_default=True, description="tokens behind one hash id; scale must keep it whole"
    )
    sec_multiplier: float = Field(1.0, gt=0, le=1e6, description="seconds in one unit of the timestamps, e.g. 0.001")
    label_timestamp: str = Field("timestamp", min_length=1, description="the trace's name for the time of a request")
    label_input_length: str = Field("input_length", min_length=1, description="the trace's name for the prompt's length")
    label_output_length: str = Field("output_length", min_length=1, description="the trace's name for the output's length")
    label_hash_ids: str = Field("hash_ids", min_length=1, description="the trace's name for the ids of the prompt's chunks")

    @field_validator("chunk_hash_size")
    @classmethod
    def _whole_chunks(cls, size: int, info: ValidationInfo) -> int:
        check_whole_blocks(info.data.get("scale", 1.0), size)
        return size

    @field_validator("label_hash_ids")
    @classmethod
    def _distinct(cls, label: str, info: ValidationInfo) -> str:
        labels = [value for name, value in info.data.items() if name.startswith("label_")]
        if len({*labels, label}) <= len(labels):
            raise ValueError("two of the labels are the same; give each field its own")
        return label


class TimedTrace(BlockTrace):
    """A trace as vLLM's benchmark reads it, with hash ids for chunks of ``chunk_hash_size`` tokens."""

    name: ClassVar[str] = "timed_trace"
    Options: ClassVar[type[WorkloadOptions]] = TimedTraceOptions
    options: TimedTraceOptions

    @property
    def clock_unit(self) -> ClockUnit:
        """As ``sec_multiplier`` has it."""
        unit = f"units of {self.options.sec_multiplier:g} s"
        return ClockUnit(self.options.label_timestamp, unit, "give another sec_multiplier=, e.g. 0.001 for milliseconds")

    @cached_property
    def format(self) -> Format:
        """As the options say."""
        o = self.options
        labels = {name: str(getattr(o, f"label_{name}")) for name in TraceLine.model_fields}

        class Line(TraceLine):
            model_config = ConfigDict(alias_generator=labels.__getitem__)

        return Format(o.chunk_hash_size, o.sec_multiplier, Line, partial=True)
