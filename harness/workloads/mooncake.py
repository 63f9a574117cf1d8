"""Replays a trace in Mooncake's format: real arrivals, lengths and sharing, with synthesised tokens."""

from collections.abc import Iterator
from itertools import chain
from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator

from harness.errors import UsageError
from harness.types import DataSet, Prompt
from harness.workloads._fit import FittedOptions, Fitter
from harness.workloads._trace import BLOCK_TOKENS, TraceRequest, read_trace
from harness.workloads.base import Limits, Workload, WorkloadOptions, token_block


class MooncakeOptions(FittedOptions):
    """Options of ``mooncake``."""

    path: str = Field(description="the trace: one JSON object a line")
    scale: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="multiplies all lengths, the 512-token block too, which must stay whole: a multiple of 1/512",
    )
    limit: int | None = Field(None, ge=1, description="measure at most so many requests, the first that qualify")
    start_s: float = Field(0.0, ge=0, allow_inf_nan=False, description="measure only requests from this time of the trace on")
    end_s: float | None = Field(None, gt=0, allow_inf_nan=False, description="measure only requests before this time")
    min_hit: float = Field(
        0.0, ge=0, le=1, description="measure only requests whose ideal hit, given all earlier ones, is at least this share"
    )
    max_hit: float = Field(1.0, ge=0, le=1, description="measure only requests whose ideal hit is at most this share")
    min_input: int = Field(1, ge=1, description="measure only requests of at least so many tokens in the trace, before scale")
    max_input: int | None = Field(None, ge=1, description="measure only requests of at most so many tokens in the trace")
    output: int = Field(4, ge=1, description="generate at most so many tokens; the trace's own number where that is less")
    seed: int = Field(0, description="another seed gives other tokens")

    @field_validator("scale")
    @classmethod
    def _whole_blocks(cls, scale: float) -> float:
        block = scale * BLOCK_TOKENS
        if block < 1 or not block.is_integer():
            low = max(int(block), 1)
            near = " and ".join(f"{k / BLOCK_TOKENS} ({k}/{BLOCK_TOKENS})" for k in (low, low + 1))
            raise ValueError(
                f"it makes a block of {BLOCK_TOKENS} tokens {block:g} tokens long, which must be a whole number;"
                f" usable are 1, 0.5, 0.25, 0.125, 0.0625 and every other multiple of 1/{BLOCK_TOKENS}, nearby {near}"
            )
        return scale

    @field_validator("end_s")
    @classmethod
    def _after_start(cls, end_s: float | None, info: ValidationInfo) -> float | None:
        if end_s is not None and end_s <= info.data.get("start_s", 0.0):
            raise ValueError(f"the window is empty; it must be greater than start_s={info.data['start_s']:g}")
        return end_s

    @field_validator("max_hit")
    @classmethod
    def _not_below_min(cls, max_hit: float, info: ValidationInfo) -> float:
        if max_hit < info.data.get("min_hit", 0.0):
            raise ValueError(f"no hit lies between; it must be at least min_hit={info.data['min_hit']:g}")
        return max_hit


class BlockTokens:
    """Tokens by block id: equal ids give equal tokens, and a partial block is the head of the whole one."""

    def __init__(self, seed: int, block_tokens: int, vocabulary: int) -> None:
        self._seed = seed
        self._block_tokens = block_tokens
        self._vocabulary = vocabulary
        self._blocks: dict[int, list[int]] = {}

    def head(self, ids: tuple[int, ...], count: int) -> tuple[int, ...]:
        """The first ``count`` tokens of the blocks ``ids``."""
        needed = ids[: -(-count // self._block_tokens)]
        return tuple(chain.from_iterable(map(self._block, needed)))[:count]

    def _block(self, name: int) -> list[int]:
        # Kept, because most blocks of a measured trace come again, and drawing them costs more than anything else here.
        if name not in self._blocks:
            drawn = token_block(f"{self._seed}/block/{name}", self._block_tokens, self._vocabulary)
            self._blocks[name] = drawn.tolist()
        return self._blocks[name]


class Mooncake(Workload):
    """The requests of a trace that lie in the window and in the ranges of hits and lengths, until ``limit`` is reached.

    Ideal hits count every earlier request of the file, also those that are not measured, at full length.
    ``over_long`` applies before ``limit``: a skipped request does not use it up. The ranges are judged on the
    trace's own lengths, so that ``scale`` does not change which requests qualify.
    """

    name: ClassVar[str] = "mooncake"
    Options: ClassVar[type[WorkloadOptions]] = MooncakeOptions
    options: MooncakeOptions

    def build(self, limits: Limits) -> DataSet:
        """The measured requests. Raises UsageError for a bad line, or where nothing qualifies or fits."""
        o = self.options
        fitter = Fitter(limits, o.over_long)
        blocks = BlockTokens(o.seed, self._block, limits.vocabulary)
        prompts: list[Prompt] = []
        read, best = 0, 0.0
        for request in read_trace(o.path):
            if o.end_s is not None and request.line.timestamp / 1000 >= o.end_s:
                break
            if request.line.timestamp / 1000 < o.start_s:
                continue
            read, best = read + 1, max(best, request.hit_share)
            if self._qualifies(request):
                prompts.extend(self._fitted(request, fitter, blocks))
            if len(prompts) == o.limit:
                break
        if not fitter.seen:
            raise self._nothing_qualifies(read, best)
        if not prompts:
            raise fitter.nothing_fits(f"{o.path} at scale={o.scale}", self._shorter(fitter.longest, limits))
        chosen = f"{fitter.seen:,} of {read:,} requests read have {self._wanted()}."
        return DataSet(tuple(prompts), (*((chosen,) if fitter.seen < read else ()), *fitter.notes()))

    def _qualifies(self, request: TraceRequest) -> bool:
        o, tokens = self.options, request.line.input_length
        return o.min_hit <= request.hit_share <= o.max_hit and o.min_input <= tokens <= (o.max_input or tokens)

    def _fitted(self, request: TraceRequest, fitter: Fitter, blocks: BlockTokens) -> Iterator[Prompt]:
        """The request's prompt, or nothing where it is skipped."""
        o = self.options
        output = max(min(request.line.output_length, o.output), 1)  # a first token is what we measure
        kept = fitter.kept(self._scaled(request.line.input_length), output)
        if kept:
            prefix = min(self._scaled(request.hit), kept)
            arrival_s = request.line.timestamp / 1000 - o.start_s
            yield Prompt(f"line{request.number}", blocks.head(request.line.hash_ids, kept), prefix, output, arrival_s)

    def _scaled(self, tokens: int) -> int:
        """``tokens`` of the trace in tokens of the prompts: whole blocks exactly, the rest rounded up."""
        return -(-tokens * self._block // BLOCK_TOKENS)

    @property
    def _block(self) -> int:
        return int(self.options.scale * BLOCK_TOKENS)

    def _wanted(self) -> str:
        o = self.options
        text = f"an ideal hit of {o.min_hit:.1%} to {o.max_hit:.1%}"
        if o.max_input is not None:
            return f"{text} and {o.min_input:,} to {o.max_input:,} tokens"
        return text if o.min_input == 1 else f"{text} and at least {o.min_input:,} tokens"

    def _nothing_qualifies(self, read: int, best: float) -> UsageError:
        o = self.options
        if not read:
            end = "" if o.end_s is None else f" and before end_s={o.end_s:g}"
            return UsageError(f"{o.path} has no request at or after start_s={o.start_s:g}{end}; choose another window")
        return UsageError(
            f"none of the {read:,} requests of {o.path} in the window has {self._wanted()}"
            f" (the highest hit is {best:.1%}); lower min_hit or widen another range"
        )

    def _shorter(self, longest: int, limits: Limits) -> str:
        """A fix: the largest scale at which the longest request fits."""
        fitting = self._block * (limits.max_tokens - self.options.output) // longest
        if fitting < 1:
            return "a model that allows more"
        return f"scale={fitting / BLOCK_TOKENS} (then the longest fits too)"
