"""Traces that name the blocks of each prompt by ids: real sharing, with synthesised tokens.

Equal ids mean equal blocks. KV depends on all that stands in front, so a block hits only behind the same blocks as
before; whether the trace's ids already say so (Mooncake) or name a block alone (Bailian) makes no difference then.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from harness.workloads._clock import LATEST, Clock, plain
from harness.workloads._lines import bad_line, read_lines
from harness.workloads._trace import MOST_TOKENS, Speak, TraceOptions, TraceRequest, TraceWorkload
from harness.workloads.base import Limits, token_block
from harness.workloads.ideal import SeenBlocks

SHORT = "the ids end before the prompt does: the rest is taken to be shared with none"
"""Remark on a request."""


class TraceLine(BaseModel):
    """One request of a trace. Fields that other traces add are ignored."""

    model_config = ConfigDict(frozen=True)

    timestamp: float = Field(ge=0, le=LATEST, allow_inf_nan=False)
    input_length: int = Field(ge=1, le=MOST_TOKENS)
    output_length: int = Field(ge=0, le=MOST_TOKENS)
    hash_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Format:
    """How a trace with block ids is written.

    ``block_tokens``: tokens behind one id. ``seconds``: of one unit of its time. ``line``: the fields of a line,
    aliases being the trace's own names. ``partial``: whether ids may stop before the prompt does.
    """

    block_tokens: int
    seconds: float
    line: type[TraceLine] = TraceLine
    partial: bool = False

    def name(self, field: str) -> str:
        """What the trace calls ``field``."""
        return self.line.model_fields[field].alias or field


class BlockReader:
    """Turns lines into requests, each with its ideal hit given all earlier ones."""

    def __init__(self, path: str, form: Format) -> None:
        self._path = path
        self._form = form
        self._seen = SeenBlocks(form.block_tokens)
        self._clock = Clock(path, form.name("timestamp"), form.seconds)

    def request(
        self, number: int, time: float, tokens: int, output: int, ids: tuple[int, ...], remarks: tuple[str, ...] = ()
    ) -> TraceRequest:
        """``tokens``: of the prompt; ``output``: recorded, -1 if unknown. Raises UsageError with line ``number`` if the line
        has another number of ids than its length needs, or goes back in time."""
        form, block = self._form, self._form.block_tokens
        blocks, named = -(-tokens // block), len(ids)
        if named > blocks or (named < blocks and not form.partial):
            problem = (
                f"{form.name('hash_ids')} has {named} entries, but {form.name('input_length')}={tokens} makes {blocks} blocks"
            )
            raise bad_line(self._path, number, problem, f"give one id for each {block} tokens begun")
        hit = self._seen.visit(ids, min(tokens, named * block))
        if named < blocks:
            remarks = (*remarks, SHORT)
        time_s, shown = self.clock(number, time)
        return TraceRequest(number, time_s, tokens, output, hit, ids, remarks=remarks, shown=shown)

    def clock(self, number: int, timestamp: float) -> tuple[float, str]:
        """Seconds since the first time, and the time as the trace writes it, with its field."""
        shown = plain(timestamp)
        return self._clock.since_first(number, timestamp, shown), self._clock.named(shown)


def read_trace(path: str, form: Format) -> Iterator[TraceRequest]:
    """The requests of a trace in order; reads as far as asked. Raises UsageError with path and line number."""
    reader = BlockReader(path, form)
    for number, line in read_lines(path, form.line):
        yield reader.request(number, line.timestamp, line.input_length, line.output_length, line.hash_ids)


class BlockTraceOptions(TraceOptions):
    """Options of traces with block ids."""

    min_hit: float = Field(
        0.0, ge=0, le=1, description="measure only requests whose ideal hit, given all earlier ones, is at least this share"
    )
    max_hit: float = Field(1.0, ge=0, le=1, description="measure only requests whose ideal hit is at most this share")

    @field_validator("max_hit")
    @classmethod
    def _not_below_min(cls, max_hit: float, info: ValidationInfo) -> float:
        if max_hit < info.data.get("min_hit", 0.0):
            raise ValueError(f"no hit lies between; it must be at least min_hit={info.data['min_hit']:g}")
        return max_hit


def check_whole_blocks(scale: float, block_tokens: int) -> None:
    """Raises ValueError, with usable ones, where ``scale`` does not make a whole number of tokens of a block."""
    block = round(scale * block_tokens, 9)  # a third is not exact in binary
    if block >= 1 and block.is_integer():
        return
    low = max(int(block), 1)
    halves = ", ".join(f"{0.5**k:g}" for k in range(5) if block_tokens % 2**k == 0)
    near = " and ".join(f"{k / block_tokens} ({k}/{block_tokens})" for k in (low, low + 1))
    raise ValueError(
        f"scale={scale:g} makes a block of {block_tokens} tokens {block:g} tokens long, which must be a whole number;"
        f" usable are {halves} and every other multiple of 1/{block_tokens}, nearby {near}"
    )


class BlockTokens:
    """Tokens by block id: equal ids give equal tokens, and a partial block is the head of the whole one."""

    def __init__(self, seed: int, block_tokens: int, vocabulary: int) -> None:
        self._seed = seed
        self._block_tokens = block_tokens
        self._vocabulary = vocabulary
        self._blocks: dict[int, list[int]] = {}

    def speak(self, request: TraceRequest, count: int) -> tuple[int, ...]:
        """The first ``count`` tokens of a request; behind its ids come tokens that no other request has."""
        if request.tokens:
            return request.tokens[:count]
        head = self.head(request.hash_ids, count)
        if len(head) == count:
            return head
        own = token_block(f"{self._seed}/tail/{request.number}", count - len(head), self._vocabulary)
        return (*head, *own.tolist())

    def head(self, ids: tuple[int, ...], count: int) -> tuple[int, ...]:
        """The first ``count`` tokens of the blocks ``ids``, fewer where the blocks end."""
        needed = ids[: -(-count // self._block_tokens)]
        return tuple(chain.from_iterable(map(self._block, needed)))[:count]

    def _block(self, name: int) -> list[int]:
        # Kept, because most blocks of a measured trace come again, and drawing them costs more than anything else here.
        if name not in self._blocks:
            drawn = token_block(f"{self._seed}/block/{name}", self._block_tokens, self._vocabulary)
            self._blocks[name] = drawn.tolist()
        return self._blocks[name]


class BlockTrace(TraceWorkload):
    """A trace with block ids. Ideal hits count every earlier request of the file, measured or not, at full length."""

    options: BlockTraceOptions

    @property
    @abstractmethod
    def format(self) -> Format:
        """How the file is written."""

    def _read(self, limits: Limits) -> Iterator[TraceRequest]:
        return read_trace(self.options.path, self.format)

    def _speaker(self, limits: Limits) -> Speak:
        return BlockTokens(self.options.seed, self._block_tokens, limits.vocabulary).speak

    @property
    def _block_tokens(self) -> int:
        return round(self.options.scale * self.format.block_tokens)

    def _scaled(self, tokens: int) -> int:
        """Whole blocks exactly, the rest rounded up."""
        return -(-tokens * self._block_tokens // self.format.block_tokens)

    def _qualifies(self, request: TraceRequest) -> bool:
        return self.options.min_hit <= request.hit_share <= self.options.max_hit and super()._qualifies(request)

    def _wanted(self) -> str:
        o = self.options
        text = f"an ideal hit of {o.min_hit:.1%} to {o.max_hit:.1%}"
        return text if o.min_input == 1 and o.max_input is None else f"{text} and {super()._wanted()}"

    def _hint(self, best: float) -> str:
        return f" (the highest hit is {best:.1%}); lower min_hit or widen another range"

    def _fitting_scale(self, longest: int, room: int) -> float:
        return self._block_tokens * room // longest / self.format.block_tokens
