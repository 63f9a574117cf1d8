"""Traces that know lengths and times only: nothing in them says what requests share.

So by default no prompt shares a token with another, nothing can hit, and ``ttft compare`` says that there is nothing
to load. ``shared`` adds what the trace lacks: a system prompt that all requests begin with. It is an assumption of
the user's, and the notes of every run say so.
"""

from typing import ClassVar

from pydantic import Field

from harness.workloads._trace import Speak, TraceOptions, TraceRequest, TraceWorkload
from harness.workloads.base import Limits, Tokens, token_block


class LengthTraceOptions(TraceOptions):
    """Options of traces without reuse."""

    shared: Tokens = Field(
        0,
        ge=0,
        le=10**6,
        description="an assumption, since the trace does not say: all prompts begin with this many equal tokens (after scale)",
    )


class LengthTrace(TraceWorkload):
    """A trace of lengths and times. The hit is the assumed system prompt, known before the trace begins."""

    options: LengthTraceOptions
    source: ClassVar[str] = "The trace"

    def _speaker(self, limits: Limits) -> Speak:
        o, root = self.options, f"{self.options.seed}/{self.name}"
        system = tuple(token_block(f"{root}/shared", o.shared, limits.vocabulary).tolist())

        def speak(request: TraceRequest, count: int) -> tuple[int, ...]:
            own = token_block(f"{root}/line{request.number}", max(count - o.shared, 0), limits.vocabulary)
            return (*system[:count], *own.tolist())

        return speak

    def _prefix(self, request: TraceRequest) -> int:
        return min(self.options.shared, self._scaled(request.input_length))

    def _remarks(self) -> tuple[str, ...]:
        without = f"{self.source} says nothing about shared prefixes"
        if self.options.shared:
            tokens = f"all prompts begin with the same {self.options.shared:,} tokens (shared={self.options.shared})"
            return (f"{without}; assumed here: {tokens}.",)
        return (f"{without}, so no prompt hits anything; shared=512 would assume a common system prompt of 512 tokens.",)
