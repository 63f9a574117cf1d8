"""What all traces have in common: requests with a time and lengths, chosen by window, range and limit, then fitted.

A trace says how long prompts are, not what is in them. So choosing needs no tokens, and the same walk gives
the prompts (``build``) and their outline (``outline``).
"""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator

from harness.core.errors import UsageError
from harness.workloads._clock import ClockUnit
from harness.workloads._fit import FittedOptions, Fitter
from harness.workloads.base import DataSet, Limits, Prompt, Tokens, TokensOrNone, Workload
from harness.workloads.outline import Outline, columns

MOST_TOKENS = 10**9
"""Longer prompts or outputs are taken for mistakes."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request as the trace has it, in tokens of the trace, before scaling.

    ``time_s``: seconds since the first request of the file. ``shown``: its time as the file writes it, empty if it doesn't.
    ``hit``: its ideal hit given all earlier requests of the file. ``tokens``: the prompt itself if the trace has it.
    ``output_length``: -1 if the trace does not say. ``skip``: why it cannot be measured; empty if it can. ``remarks``: what
    is peculiar about it, though it can be measured; counted in the notes.
    """

    number: int
    time_s: float
    input_length: int
    output_length: int
    hit: int = 0
    hash_ids: tuple[int, ...] = ()
    skip: str = ""
    remarks: tuple[str, ...] = ()
    shown: str = ""
    tokens: tuple[int, ...] = ()

    @property
    def hit_share(self) -> float:
        """Ideal hit as a share of the prompt, 0 to 1."""
        return self.hit / max(self.input_length, 1)


Speak = Callable[[TraceRequest, int], tuple[int, ...]]
"""The first so many tokens of a request's prompt."""


class TraceOptions(FittedOptions):
    """Options of every trace."""

    path: str = Field(description="the trace")
    scale: float = Field(1.0, gt=0, le=1024, allow_inf_nan=False, description="multiplies all lengths of the trace; rounded up")
    limit: int | None = Field(None, ge=1, description="measure at most this many requests, the first that qualify")
    start_s: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="measure only requests this many seconds or more after the trace's first one"
    )
    end_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="measure only requests less than this many seconds after the trace's first one",
    )
    min_input: Tokens = Field(
        1, ge=1, description="measure only requests of at least this many tokens in the trace, before scale"
    )
    max_input: TokensOrNone = Field(None, ge=1, description="measure only requests of at most this many tokens in the trace")
    output: int = Field(4, ge=1, description="generate at most this many tokens; the trace's own number if that is less")
    seed: int = Field(0, description="another seed gives other tokens")

    @field_validator("end_s")
    @classmethod
    def _after_start(cls, end_s: float | None, info: ValidationInfo) -> float | None:
        if end_s is not None and end_s <= info.data.get("start_s", 0.0):
            raise ValueError(f"the window is empty; it must be greater than start_s={info.data['start_s']:g}")
        return end_s


@dataclass(frozen=True, slots=True)
class _Sized:
    """A request as it is sent, but for its tokens."""

    request: TraceRequest
    kept: int
    prefix: int
    output: int
    arrival_s: float


@dataclass(slots=True)
class _Tally:
    """What one walk through the trace came across.

    ``begins``: the first request's time as the file writes it. ``before_s``, ``after_s``: the times nearest to the window
    outside it, if they were read. ``first_s``, ``last_s``: of the requests in the window. ``best``: the highest hit in it.
    """

    fitter: Fitter
    begins: str | None = None
    before_s: float | None = None
    after_s: float | None = None
    first_s: float = 0.0
    last_s: float = 0.0
    read: int = 0
    best: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)


class TraceWorkload(Workload):
    """The requests of a trace that lie in the window and in the ranges, until ``limit`` is reached.

    ``over_long`` applies before ``limit``: a skipped request does not use it up. The ranges are judged on the
    trace's own lengths, so that ``scale`` does not change which requests qualify.
    """

    options: TraceOptions
    counted: ClassVar[str] = "line"
    """What ``TraceRequest.number`` counts, for the ids of prompts."""

    @abstractmethod
    def _read(self, limits: Limits) -> Iterator[TraceRequest]:
        """All requests of the file, in order, read as far as asked. Raises UsageError with the line's number."""

    @abstractmethod
    def _speaker(self, limits: Limits) -> Speak:
        """What makes the tokens of one build."""

    @property
    def clock_unit(self) -> ClockUnit | None:
        """What the times of the file are counted in; None if they cannot be mistaken."""
        return None

    def _qualifies(self, request: TraceRequest) -> bool:
        o, tokens = self.options, request.input_length
        return o.min_input <= tokens <= (o.max_input or tokens)

    def _wanted(self) -> str:
        """What ``_qualifies`` asks for, in words."""
        o = self.options
        return f"at least {o.min_input:,} tokens" if o.max_input is None else f"{o.min_input:,} to {o.max_input:,} tokens"

    def _scaled(self, tokens: int) -> int:
        """``tokens`` of the trace in tokens of the prompts, rounded up; what is not 0 stays so."""
        if self.options.scale == 1:
            return tokens
        # 30 * 0.1 is a little more than 3 in binary; nobody means the 4 that rounding up would make of it.
        return max(math.ceil(round(tokens * self.options.scale, 6)), min(tokens, 1))

    def _prefix(self, request: TraceRequest) -> int:
        """Leading tokens of the prompt that the store should hold, in tokens of the prompts, before cutting."""
        return self._scaled(request.hit)

    def _fitting_scale(self, longest: int, room: int) -> float:
        """The largest usable scale at which a prompt that is now ``longest`` has ``room`` tokens at most; 0 without."""
        scale = self.options.scale * room / longest
        if scale <= 0:
            return 0.0
        step = 10.0 ** (math.floor(math.log10(scale)) - 2)  # three digits, rounded down
        return float(f"{math.floor(scale / step) * step:.6g}")

    @property
    def _block_tokens(self) -> int:
        """Tokens of one block of the trace, as sent; 0 without blocks."""
        return 0

    def _remarks(self) -> tuple[str, ...]:
        """What the user should know about the format, as sentences."""
        return ()

    def build(self, limits: Limits) -> DataSet:
        """The measured requests. Raises UsageError for a bad line, or where nothing qualifies or fits."""
        tally, speak = _Tally(Fitter(limits, self.options.over_long)), self._speaker(limits)
        prompts = tuple(
            Prompt(f"{self.counted}{one.request.number}", speak(one.request, one.kept), one.prefix, one.output, one.arrival_s)
            for one in self._sized(limits, tally)
        )
        return DataSet(prompts, self._notes(tally))

    def outline(self, limits: Limits) -> Outline:
        """As ``build``, without making tokens; memory holds five numbers per request."""
        tally = _Tally(Fitter(limits, self.options.over_long))
        rows = (
            (one.kept, one.prefix, one.output, one.request.output_length, one.arrival_s) for one in self._sized(limits, tally)
        )
        listed = columns(rows)
        return Outline(
            *listed,
            block_tokens=self._block_tokens,
            notes=self._notes(tally),
            begins=tally.begins or "",
            start_s=self.options.start_s,
        )

    def _sized(self, limits: Limits, tally: _Tally) -> Iterator[_Sized]:
        o, count = self.options, 0
        for request in self._read(limits):
            if tally.begins is None:
                tally.begins = request.shown
            if o.end_s is not None and request.time_s >= o.end_s:
                tally.after_s = request.time_s
                break
            if request.time_s < o.start_s:
                tally.before_s = request.time_s
                continue
            tally.first_s = tally.first_s if tally.read else request.time_s
            tally.last_s = request.time_s
            tally.read += 1
            if request.skip:
                tally.skipped[request.skip] += 1
                continue
            tally.best = max(tally.best, request.hit_share)
            if not self._qualifies(request):
                continue
            recorded = o.output if request.output_length < 0 else request.output_length
            output = max(min(recorded, o.output), 1)  # a first token is what we measure
            if kept := tally.fitter.kept(self._scaled(request.input_length), output):
                yield _Sized(request, kept, min(self._prefix(request), kept), output, request.time_s - o.start_s)
                count += 1
                tally.remarks.update(request.remarks)
            if count == o.limit:
                break
        if not tally.fitter.seen:
            raise self._nothing_qualifies(tally)
        if not count:
            raise tally.fitter.nothing_fits(f"{o.path} at scale={o.scale}", self._shorter(tally.fitter.longest, limits))

    def _notes(self, tally: _Tally) -> tuple[str, ...]:
        notes = [f"Skipped {count:,} of {tally.read:,} requests read: {why}." for why, count in tally.skipped.items()]
        able = tally.read - tally.skipped.total()
        if tally.fitter.seen < able:
            notes.append(f"{tally.fitter.seen:,} of {able:,} requests read have {self._wanted()}.")
        notes += [f"Of {count:,} requests {what}." for what, count in tally.remarks.items()]
        unit = self.clock_unit
        doubt = unit.doubt(tally.read, tally.last_s - tally.first_s) if unit else ()
        return (*self._remarks(), *notes, *tally.fitter.notes(), *doubt)

    def _nothing_qualifies(self, tally: _Tally) -> UsageError:
        o = self.options
        if tally.begins is None:
            return UsageError(f"{o.path} has no requests; name a trace that has some")
        if not tally.read:
            return self._empty_window(tally)
        if tally.skipped.total() == tally.read:
            why = "; ".join(tally.skipped)
            return UsageError(f"all {tally.read:,} requests of {o.path} in the window are skipped: {why}; choose others")
        return UsageError(
            f"none of the {tally.read:,} requests of {o.path} in the window has {self._wanted()}{self._hint(tally.best)}"
        )

    def _empty_window(self, tally: _Tally) -> UsageError:
        o = self.options
        end = "" if o.end_s is None else f" and before end_s={o.end_s:g}"
        if tally.after_s is None:
            lies = f"the last request lies at {tally.before_s:g} s"
        elif tally.before_s is None:
            lies = f"the next request lies at {tally.after_s:g} s"
        else:
            lies = f"the nearest requests lie at {tally.before_s:g} s and {tally.after_s:g} s"
        first = f" ({tally.begins})" if tally.begins else ""
        return UsageError(
            f"{o.path} has no request at or after start_s={o.start_s:g}{end}: {lies}, counted from the first request{first};"
            " choose another window"
        )

    def _hint(self, best: float) -> str:
        """How to let requests qualify. ``best``: the highest hit among those that were read."""
        return "; lower min_input or raise max_input"

    def _shorter(self, longest: int, limits: Limits) -> str:
        """A fix: the largest scale at which the longest request fits."""
        scale = self._fitting_scale(longest, limits.max_tokens - self.options.output)
        return f"scale={scale} (then the longest fits too)" if scale else "a model that allows more"
