"""Mooncake's trace format and its kin: real arrivals, lengths and sharing, with synthesised tokens.

The format (github.com/kvcache-ai/Mooncake, FAST25-release): one object per line, with ``timestamp`` (ms from the
start of the trace), ``input_length``, ``output_length`` and ``hash_ids``, one id per 512-token block, the last
block perhaps partial. Equal ids mean equal blocks behind equal prefixes.

Its kin, as NVIDIA's AIPerf writes it (``MooncakeTrace`` in github.com/ai-dynamo/aiperf, src/aiperf/dataset/loader/models.py):
``session_id`` with ``delay`` (ms between a turn and the one before it) in place of a timestamp; no times at all;
``text_input`` or ``messages`` in place of lengths and ids; ``output_length`` may be missing. Each line is the whole prompt.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.options import Listed
from harness.workloads._blocks import BlockReader, BlockTrace, BlockTraceOptions, Format, check_whole_blocks
from harness.workloads._chat import ChatMessage, text_of
from harness.workloads._clock import LATEST, ClockUnit
from harness.workloads._lines import bad_line, read_lines
from harness.workloads._sessions import in_time_order
from harness.workloads._text import TOKENIZER, chat_tokens, checked, load_tokenizer
from harness.workloads._trace import MOST_TOKENS, TraceRequest
from harness.workloads.base import Limits, WorkloadOptions
from harness.workloads.ideal import SeenChunks

MOONCAKE = Format(block_tokens=512, seconds=0.001)

DELAYED = "the time is that of the session's previous turn plus the delay; how long that turn's answer took is not in the trace"
"""Remark on a request."""

PLAIN = "the messages are written as 'role: text' lines, since the tokenizer has no chat template"
PARTS = "images and other parts of messages that are no text are skipped, so the prompt is shorter than it was"

Milliseconds = Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)]


class MooncakeLine(BaseModel):
    """One request: lengths with block ids, a text, or messages. Fields that other traces add are ignored."""

    model_config = ConfigDict(frozen=True)

    timestamp: Milliseconds | None = None
    delay: Milliseconds | None = None
    session_id: str | int | None = None
    input_length: int | None = Field(None, ge=1, le=MOST_TOKENS)
    output_length: int | None = Field(None, ge=0, le=MOST_TOKENS)
    hash_ids: Annotated[tuple[int, ...], Field(fail_fast=True)] | None = None
    text_input: str | None = None
    messages: Listed[ChatMessage] | None = Field(None, min_length=1)
    tools: Listed[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _one_prompt(self) -> "MooncakeLine":
        given = [name for name in ("input_length", "text_input", "messages") if getattr(self, name) is not None]
        if len(given) != 1:
            has = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of input_length, text_input and messages, and has {has}")
        return self


class MooncakeOptions(BlockTraceOptions):
    """Options of ``mooncake``."""

    tokenizer: str | None = Field(None, description=f"for lines with text_input or messages: {TOKENIZER}")

    @field_validator("scale")
    @classmethod
    def _whole_blocks(cls, scale: float) -> float:
        check_whole_blocks(scale, MOONCAKE.block_tokens)
        return scale


class Mooncake(BlockTrace):
    """A trace in Mooncake's format; ``scale`` must keep its 512-token blocks whole: a multiple of 1/512.

    Turns of a session come ``delay`` ms after the turn before. Lines with text need ``tokenizer`` and keep their length.
    """

    name: ClassVar[str] = "mooncake"
    Options: ClassVar[type[WorkloadOptions]] = MooncakeOptions
    options: MooncakeOptions

    @property
    def format(self) -> Format:
        """As published."""
        return MOONCAKE

    @property
    def clock_unit(self) -> ClockUnit:
        """As published."""
        return ClockUnit("timestamp", "milliseconds", "read it as timed_trace:chunk_hash_size=512,sec_multiplier=1")

    def _read(self, limits: Limits) -> Iterator[TraceRequest]:
        o, texts = self.options, None
        blocks = BlockReader(o.path, MOONCAKE)
        for number, line, time_ms in in_time_order(o.path, read_lines(o.path, MooncakeLine)):
            remarks = (DELAYED,) if line.timestamp is None and line.delay is not None else ()
            output = -1 if line.output_length is None else line.output_length
            if line.input_length is None:
                texts = texts or _Texts(o, limits)
                tokens, found = texts.tokens(number, line)
                time_s, shown = blocks.clock(number, time_ms)
                hit, remarks = texts.seen.visit(tokens), (*remarks, *found)
                request = TraceRequest(number, time_s, len(tokens), output, hit, remarks=remarks, shown=shown, tokens=tokens)
            elif line.hash_ids is None:
                raise bad_line(o.path, number, "the field 'hash_ids' is missing", "give hash_ids")
            else:
                request = blocks.request(number, time_ms, line.input_length, output, line.hash_ids, remarks)
            yield request if line.timestamp is not None else replace(request, shown="")


class _Texts:
    """Prompts that the trace has itself. They hit in whole chunks what earlier texts left, and can't be scaled."""

    def __init__(self, options: MooncakeOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._tokenizer = None if options.tokenizer is None else load_tokenizer(options.tokenizer)
        self.seen = SeenChunks(limits.chunk_tokens)

    def tokens(self, number: int, line: MooncakeLine) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The prompt of a line, and what is peculiar about it. Raises UsageError with line ``number``."""
        o, dropped = self._options, Counter[str]()
        if self._tokenizer is None:
            raise bad_line(o.path, number, "has text, and no tokenizer is named", "give tokenizer=FOLDER")
        if o.scale != 1:
            raise bad_line(o.path, number, f"has text, which scale={o.scale:g} cannot apply to", "use scale=1")
        remarks: tuple[str, ...] = ()
        if line.messages is None:
            tokens = self._tokenizer.encode(text_of(line.text_input or "", dropped))
        else:
            messages = [message.message(dropped) for message in line.messages]
            tokens = chat_tokens(self._tokenizer, messages, line.tools, o.path, number)
            remarks = () if self._tokenizer.templated else (PLAIN,)
        fix = f"tokenizer={o.tokenizer} is not the model's"
        return checked(tokens, self._limits.vocabulary, o.path, number, fix), (*remarks, *((PARTS,) if dropped else ()))
