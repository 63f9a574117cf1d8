"""What one request gave. Times on ``time.perf_counter``'s clock, durations in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished request; ``error`` is empty where it succeeded.

    ``server_ttft_s`` is vLLM's own first-token latency, ``queue_s`` from queued to first scheduled,
    ``prefill_s`` from first scheduled to the first token (lookup, stall and compute), ``token_gaps_s``
    between the arrivals of neighbouring outputs, each mostly one token. ``preemptions``: None if nobody counts them.
    ``held_back_s``: how old the first token was when it came, as far as the later ones show.
    ``text`` and ``text_tokens``: the answer and how many tokens it has, of a server that sends no token ids.
    """

    sent_s: float
    first_s: float | None = None
    last_s: float | None = None
    tokens: tuple[int, ...] = ()
    cached_tokens: int | None = None
    server_ttft_s: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    preemptions: int | None = None
    error: str = ""
    token_gaps_s: tuple[float, ...] = ()
    held_back_s: float = 0.0
    text: str = ""
    text_tokens: int = 0

    @property
    def output_tokens(self) -> int:
        """How many tokens the answer has."""
        return len(self.tokens) or self.text_tokens
