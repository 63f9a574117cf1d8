"""How old the first token was when it came, and what a run makes of it."""

import json
import math
from collections.abc import Sequence

import pytest

from harness.replay.event_stream import EventStream
from harness.replay.lag import held_back_reason


def held_back(events: Sequence[tuple[float, int]], decoding_ms: float | None = None) -> float:
    """``events``: arrival in seconds, and number of tokens."""
    stream = EventStream(sum(count for _, count in events), 0.0, 10.0)
    for at, count in events:
        assert stream.take(b"data: " + json.dumps({"choices": [{"token_ids": count * [7]}]}).encode(), at)
    metrics = {"generation_time_ms": decoding_ms} if decoding_ms is not None else None
    stream.take(b"data: " + json.dumps({"choices": [], "metrics": metrics}).encode(), events[-1][0])
    stream.take(b"data: [DONE]", events[-1][0])
    outcome = stream.outcome()
    assert outcome.error == ""
    return outcome.held_back_s


ONE_BY_ONE = [(0.10, 1), (0.11, 1), (0.12, 1), (0.13, 1)]


def test_tokens_one_by_one_are_on_time() -> None:
    assert held_back(ONE_BY_ONE) == 0
    assert held_back(ONE_BY_ONE, decoding_ms=30) == pytest.approx(0, abs=1e-9)
    assert held_back([(0.10, 1), (0.11, 3)]) == 0  # speculative decoding gives several, but never the first with them


def test_a_burst_says_that_they_were_held_back_and_the_server_for_how_long() -> None:
    burst = [(0.10 + 1e-5 * number, 1) for number in range(4)]
    assert held_back(burst) == math.inf
    assert held_back([(0.10, 4)]) == math.inf
    assert held_back(burst, decoding_ms=30) == pytest.approx(0.03, abs=1e-4)
    assert held_back([(0.10, 4)], decoding_ms=30) == pytest.approx(0.03)


def test_a_first_event_of_several_tokens_is_as_old_as_they_took() -> None:
    assert held_back([(0.10, 3), (0.11, 1), (0.12, 1)]) == pytest.approx(0.02)


def test_one_token_alone_shows_nothing() -> None:
    assert held_back([(0.10, 1)]) == 0
    assert held_back([(0.10, 1)], decoding_ms=0) == 0


def test_a_run_is_void_if_it_happens_to_most_of_its_requests_only() -> None:
    ttfts = 5 * [0.1]
    assert held_back_reason([0, 0, 0, math.inf, math.inf], ttfts) == ""
    assert held_back_reason(5 * [0.0099], ttfts) == ""
    assert "the first token was 30 ms old when it came" in held_back_reason(5 * [0.03], ttfts)
    assert "all tokens came at once" in held_back_reason(5 * [math.inf], ttfts)
    assert held_back_reason([], []) == ""


NUMBERS = ["-Infinity", "Infinity", "NaN", "-1e300", "1e300", "-1" + 400 * "0", "1" + 400 * "0", "true", '"7"', "-5", "7.5"]


@pytest.mark.parametrize("told", NUMBERS)
def test_no_number_of_a_server_is_one_that_the_results_cannot_hold(told: str) -> None:
    """A row is written as it comes, and one cell that cannot be read again would cost all rows."""
    stream = EventStream(1, 0.0, 10.0)
    stream.take(b'data: {"choices": [{"token_ids": [7]}]}', 0.1)
    times = ", ".join(f'"{name}": {told}' for name in ("queue_time_ms", "time_to_first_token_ms", "generation_time_ms"))
    stream.take(f'data: {{"choices": [], "metrics": {{{times}}}}}'.encode(), 0.2)
    stream.take(b"data: [DONE]", 0.2)
    found = stream.outcome()
    assert found.error == "" and found.held_back_s == 0
    assert {found.queue_s, found.prefill_s} <= {None, 0.0075}
    with pytest.raises(ValueError, match="is no completion"):
        stream.take(f'data: {{"choices": [], "usage": {{"prompt_tokens_details": {{"cached_tokens": {told}}}}}}}'.encode(), 0.3)
