"""One answer of a completions API as it comes in: server-sent events, a JSON object each, ``[DONE]`` at the end."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.replay.outcome import Outcome

SAID = 200
"""Characters of a server's own words that an error repeats."""
TOKEN_IDS = 2**32
FASTEST_GAP_S = 1e-4
"""No model decodes a token in less. Tokens that arrive closer together were held back on their way and released together."""
HELD_BACK_S = 5e-3
HELD_BACK_SHARE = 0.1
"""How much shorter than the server's own decoding time the stream has to be before it counts as held back, in seconds
and as a share of the TTFT: a client that is late once by less than that spoils no comparison."""
FEWEST_EVENTS = 4
"""From so many on, arrivals without pause are no accident of this process being busy."""

_UNREADABLE = (TypeError, KeyError, AttributeError, IndexError, ValueError, OverflowError)


@dataclass
class EventStream:
    """The events of one answer to a request for ``wanted`` tokens; ``heard`` is called with each arrival time.

    Times are on ``time.perf_counter``'s clock. A stream of which no more than ``silence_s`` seconds bring no token
    is alive; comments that keep the connection open are no tokens.
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
        """What became of the request. A time to first token that the stream cannot show is an error, not a number."""
        error = self.error
        if not error and self.done_s is None:
            error = self.cut_off()
        if not error and self.wanted and self.textual and not self.tokens:
            error = "the server's answer has text but no token ids; it must be a vLLM that knows return_token_ids"
        if not error and len(self.tokens) != self.wanted:
            error = f"vLLM gave {len(self.tokens)} of {self.wanted} tokens (finish reason: {self.finish_reason or 'none'})"
        error = error or self._held_back()
        first = self.arrivals[0] if self.arrivals else None
        if error:
            return Outcome(self.sent_s, first, error=error)
        return Outcome(
            sent_s=self.sent_s,
            first_s=first,
            last_s=self.done_s,
            tokens=tuple(self.tokens),
            token_gaps_s=tuple(after - before for before, after in itertools.pairwise(self.arrivals)),
            cached_tokens=self.cached_tokens,
            queue_s=self._seconds("queue_time_ms"),
            prefill_s=self._seconds("time_to_first_token_ms"),  # vLLM counts it from scheduled to first token
        )

    def _held_back(self) -> str:
        """Why the first arrival is not when the first token left the server; empty if nothing speaks against it."""
        fix = "so the time to first token is not known; take away the proxy or the buffering between server and client"
        if self.first_count > 1:
            return f"the first event holds {self.first_count} tokens, {fix}"
        if len(self.arrivals) < 2:
            return ""
        seen = self.arrivals[-1] - self.arrivals[0]
        decoding = self._seconds("generation_time_ms")
        late = max(HELD_BACK_S, HELD_BACK_SHARE * (self.arrivals[0] - self.sent_s))
        if decoding is not None and seen < decoding / 4 and decoding - seen > late:
            return (
                f"{len(self.tokens)} tokens came within {seen * 1e3:.1f} ms, but the server took "
                f"{decoding * 1e3:.1f} ms to make them, {fix}"
            )
        if decoding is None and len(self.arrivals) >= FEWEST_EVENTS and seen < FASTEST_GAP_S * (len(self.arrivals) - 1):
            return f"{len(self.tokens)} tokens came within {seen * 1e3:.2f} ms, faster than any model makes them, {fix}"
        return ""

    def _seconds(self, name: str) -> float | None:
        value = self.metrics.get(name)
        return float(value) / 1e3 if isinstance(value, int | float) and not isinstance(value, bool) and value < 1e12 else None


def _token(value: object) -> int:
    if type(value) is not int or not 0 <= value < TOKEN_IDS:
        raise ValueError(f"{value!r} is no token id")
    return value


def said(data: bytes) -> str:
    """The beginning of a server's words, on one line."""
    text = " ".join(data[: 8 * SAID].decode(errors="replace").split())
    return text if len(text) <= SAID else text[:SAID] + "..."
