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
LARGEST = 2**53
"""No count is beyond: a column of results could not hold it."""
FASTEST_GAP_S = 1e-4
"""No model decodes a token in less: tokens that arrive closer together were held back and released together."""
BURST = 4
"""So many events that arrive closer together at the beginning were held back: a proxy passes a buffer on when it is full. Fewer
may be due to a client that was busy for a moment."""

_UNREADABLE = (TypeError, KeyError, AttributeError, IndexError, ValueError, OverflowError)


@dataclass
class EventStream:
    """The events of one answer to a request for ``wanted`` tokens; ``heard`` is called with each arrival time.

    Times are on ``time.perf_counter``'s clock. A stream that brings no token for ``silence_s`` seconds has failed,
    even if comments keep the connection open.

    ``any_text``: the server may send text without token ids. Then a token has come with the first event that has content of
    any kind: text, reasoning, a tool call, or a usage that counts one more token, as a part of a character does.
    """

    wanted: int
    sent_s: float
    silence_s: float
    heard: Callable[[float], None] | None = None
    any_text: bool = False
    tokens: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    """Tokens so far at each of the arrivals; 0: the server did not say."""
    texts: list[str] = field(default_factory=list)
    counted: int | None = None
    """Tokens so far, as the server's usage says."""
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
        if self.count > self.wanted:
            self.error = f"the server gave more than the {self.wanted} tokens that were asked for"
        return not self.error

    def _note(self, event: Mapping[str, Any], at: float) -> None:
        before, texts = self.counted or 0, len(self.texts)
        if usage := event.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            self.cached_tokens = self.cached_tokens if cached is None else _count(cached)
            if isinstance(count := usage.get("completion_tokens"), int):
                self.counted = count
        for choice in event["choices"]:
            new = [_token(value) for value in choice.get("token_ids") or []]
            self.texts += _content(choice)
            self.tokens.extend(new)
            if new:
                self._arrived(at, len(self.tokens))
            elif self.any_text and not self.tokens and (self.texts[texts:] or (self.counted or 0) > before):
                self._arrived(at, self.counted or 0)
            self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)
        self.metrics = dict(event.get("metrics") or self.metrics)

    def _arrived(self, at: float, count: int) -> None:
        self.arrivals.append(at)
        self.counts.append(count)
        if self.heard is not None:
            self.heard(at)

    @property
    def count(self) -> int:
        """Tokens so far."""
        return len(self.tokens) or ((self.counted or 0) if self.any_text else 0)

    def silent(self) -> str:
        """What is wrong with a stream that brings nothing any more."""
        return f"the server was silent for {self.silence_s:g} s after {self.count} of {self.wanted} tokens"

    def cut_off(self) -> str:
        """What is wrong with a stream that ended too early."""
        return f"the server closed the stream after {self.count} of {self.wanted} tokens"

    def outcome(self) -> Outcome:
        """What became of the request."""
        error = self.error
        if not error and self.done_s is None:
            error = self.cut_off()
        if not error and self.wanted and self.texts and not self.tokens:
            error = self._not_counted()
        if not error and self.count != self.wanted:
            error = f"the server gave {self.count} of {self.wanted} tokens (finish reason: {self.finish_reason or 'none'})"
        if not error and self.wanted and not self.arrivals:
            error = "the server counts tokens that its stream does not have"
        first = self.arrivals[0] if self.arrivals else None
        if error:
            return Outcome(self.sent_s, first, error=one_line(error, LONGEST))
        return Outcome(
            sent_s=self.sent_s,
            first_s=first,
            last_s=self.done_s,
            tokens=tuple(self.tokens),
            text="" if self.tokens else "".join(self.texts),
            text_tokens=0 if self.tokens else self.count,
            token_gaps_s=tuple(after - before for before, after in itertools.pairwise(self.arrivals)),
            cached_tokens=self.cached_tokens,
            queue_s=self._seconds("queue_time_ms"),
            prefill_s=self._seconds("time_to_first_token_ms"),  # vLLM counts it from scheduled to first token
            held_back_s=self._held_back_s(),
        )

    def _not_counted(self) -> str:
        if not self.any_text:
            return "the server's answer has text but no token ids; it must be a vLLM that knows return_token_ids"
        if self.counted is None:
            return "the server's answer has neither token ids nor a usage, so nobody knows how many tokens it has"
        return ""

    def _held_back_s(self) -> float:
        """How long the first token had been made when it came, as far as later tokens show it; infinite if only a burst came.

        Tokens are held back by a proxy that buffers, or by a client or server that is too busy to pass them on.
        """
        if self.count < 2:
            return 0.0
        seen = self.arrivals[-1] - self.arrivals[0]
        decoding = self._seconds("generation_time_ms")
        if decoding is not None:
            return max(decoding - seen, 0.0)
        if seen <= FASTEST_GAP_S * (len(self.arrivals) - 1):
            return math.inf
        gaps = (after - before for before, after in itertools.pairwise(self.arrivals))
        burst = 1 + sum(1 for _ in itertools.takewhile(lambda gap: gap <= FASTEST_GAP_S, gaps))
        burst = burst if burst >= BURST else 1
        # A usage at the end alone does not say where several tokens came in one event: at worst all did in the first.
        first = self.counts[burst - 1] or self.count - len(self.arrivals) + burst
        return seen / (self.count - first) * (first - 1) if self.count > first else math.inf

    def _seconds(self, name: str) -> float | None:
        value = self.metrics.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:  # NaN is not in there either
            return None
        return float(value) / 1e3


def _token(value: object) -> int:
    if type(value) is not int or not 0 <= value < TOKEN_IDS:
        raise ValueError(f"{value!r} is no token id")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError(f"{value!r} is no count of tokens")
    return value


def _content(choice: Mapping[str, Any]) -> list[str]:
    """Text of any kind in one choice: of a completion, or of a chat, where reasoning and tool calls come before or instead."""
    delta = choice.get("delta") or {}
    told = [choice.get("text"), *(delta.get(name) for name in ("reasoning_content", "reasoning", "content"))]
    calls = delta.get("tool_calls")
    return [str(one) for one in told if one] + ([json.dumps(calls)] if calls else [])


def said(data: bytes) -> str:
    """The beginning of a server's words, on one line."""
    text = printable(without_secrets(" ".join(data[: 8 * SAID].decode(errors="replace").split())))
    return text if len(text) <= SAID else text[:SAID] + "..."
