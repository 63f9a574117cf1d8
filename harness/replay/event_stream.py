"""One answer of a completions API as it comes in: server-sent events, a JSON object each, ``[DONE]`` at the end."""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import LONGEST
from harness.core.text import one_line, printable, without_secrets
from harness.replay.outcome import Outcome

SAID = 200
"""Characters of a server's own words that an error repeats."""
TOKEN_IDS = 2**32
FASTEST_GAP_S = 1e-4
"""No model decodes a token in less: tokens that arrive closer together were held back and released together."""

_UNREADABLE = (TypeError, KeyError, AttributeError, IndexError, ValueError, OverflowError)


@dataclass
class EventStream:
    """The events of one answer to a request for ``wanted`` tokens; ``heard`` is called with each arrival time.

    Times are on ``time.perf_counter``'s clock. A stream that brings no token for ``silence_s`` seconds has failed,
    even if comments keep the connection open.
    """

    wanted: int
    sent_s: float
    silence_s: float
    heard: Callable[[float], None] | None = None
    tokens: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    first_count: int = 0
    textual: bool = False
    cached_tokens: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    finish_reason: str = ""
    done_s: float | None = None
    error: str = ""

    def take(self, line: bytes, at: float) -> bool:
        """One line that came in at ``at``; whether more lines are wanted. Raises ValueError for what is no event."""
        if not line.startswith(b"data:"):  # the blank line between two events, or a comment that keeps the connection alive
            if self.done_s is None and at - max([self.sent_s, *self.arrivals[-1:]]) > self.silence_s:
                self.error = self.silent()
            return not self.error
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done_s = at
            return True
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(f"'{said(data)}' is not JSON") from None
        try:
            if "error" in event:
                self.error = f"the server's stream ended in an error: {said(data)}"
            else:
                self._note(event, at)
        except _UNREADABLE:
            raise ValueError(f"'{said(data)}' is no completion") from None
        if len(self.tokens) > self.wanted:
            self.error = f"vLLM gave more than the {self.wanted} tokens that were asked for"
        return not self.error

    def _note(self, event: Mapping[str, Any], at: float) -> None:
        for choice in event["choices"]:
            new = [_token(value) for value in choice.get("token_ids") or []]
            self.textual = self.textual or bool(choice.get("text") or choice.get("delta"))
            if new:
                self.first_count = self.first_count or len(new)
                self.arrivals.append(at)
                if self.heard is not None:
                    self.heard(at)
                self.tokens.extend(new)
            self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)
        if usage := event.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            self.cached_tokens = None if cached is None else int(cached)
        self.metrics = dict(event.get("metrics") or self.metrics)

    def silent(self) -> str:
        """What is wrong with a stream that brings nothing any more."""
        return f"the server was silent for {self.silence_s:g} s after {len(self.tokens)} of {self.wanted} tokens"

    def cut_off(self) -> str:
        """What is wrong with a stream that ended too early."""
        return f"the server closed the stream after {len(self.tokens)} of {self.wanted} tokens"

    def outcome(self) -> Outcome:
        """What became of the request."""
        error = self.error
        if not error and self.done_s is None:
            error = self.cut_off()
        if not error and self.wanted and self.textual and not self.tokens:
            error = "the server's answer has text but no token ids; it must be a vLLM that knows return_token_ids"
        if not error and len(self.tokens) != self.wanted:
            error = f"vLLM gave {len(self.tokens)} of {self.wanted} tokens (finish reason: {self.finish_reason or 'none'})"
        first = self.arrivals[0] if self.arrivals else None
        if error:
            return Outcome(self.sent_s, first, error=one_line(error, LONGEST))
        return Outcome(
            sent_s=self.sent_s,
            first_s=first,
            last_s=self.done_s,
            tokens=tuple(self.tokens),
            token_gaps_s=tuple(after - before for before, after in itertools.pairwise(self.arrivals)),
            cached_tokens=self.cached_tokens,
            queue_s=self._seconds("queue_time_ms"),
            prefill_s=self._seconds("time_to_first_token_ms"),  # vLLM counts it from scheduled to first token
            held_back_s=self._held_back_s(),
        )

    def _held_back_s(self) -> float:
        """How long the first token had been made when it came, as far as later tokens show it; infinite if only a burst came.

        Tokens are held back by a proxy that buffers, or by a client or server that is too busy to pass them on.
        """
        if len(self.tokens) < 2:
            return 0.0
        seen = self.arrivals[-1] - self.arrivals[0]
        decoding = self._seconds("generation_time_ms")
        if decoding is not None:
            return max(decoding - seen, 0.0)
        if seen <= FASTEST_GAP_S * (len(self.arrivals) - 1):
            return math.inf
        return seen / (len(self.tokens) - self.first_count) * (self.first_count - 1)

    def _seconds(self, name: str) -> float | None:
        value = self.metrics.get(name)
        return float(value) / 1e3 if isinstance(value, int | float) and not isinstance(value, bool) and value < 1e12 else None


def _token(value: object) -> int:
    if type(value) is not int or not 0 <= value < TOKEN_IDS:
        raise ValueError(f"{value!r} is no token id")
    return value


def said(data: bytes) -> str:
    """The beginning of a server's words, on one line."""
    text = printable(without_secrets(" ".join(data[: 8 * SAID].decode(errors="replace").split())))
    return text if len(text) <= SAID else text[:SAID] + "..."
