"""Answers of any server: the first token is the first content of any kind, and how many tokens came is known or refused."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest

from harness.replay.event_stream import EventStream
from harness.replay.outcome import Outcome

Event = tuple[float, dict[str, Any], int | None]
"""Arrival in seconds, the choice, and how many tokens the event's usage counts so far."""


def answer(events: Sequence[Event], wanted: int, told: int | None = None, any_text: bool = True) -> Outcome:
    """``told``: tokens that the usage at the end counts."""
    stream = EventStream(wanted, 0.0, 10.0, any_text=any_text)
    for at, choice, counted in events:
        usage = {} if counted is None else {"usage": {"completion_tokens": counted}}
        stream.take(b"data: " + json.dumps({"choices": [{"index": 0, **choice}], **usage}).encode(), at)
    end = {"prompt_tokens_details": {"cached_tokens": 5}} | ({} if told is None else {"completion_tokens": told})
    stream.take(b"data: " + json.dumps({"choices": [], "usage": end}).encode(), 1.0)
    stream.take(b"data: [DONE]", 1.0)
    return stream.outcome()


@pytest.mark.parametrize(
    "content",
    [
        {"text": "a"},
        {"delta": {"content": "a"}},
        {"delta": {"reasoning_content": "a"}},
        {"delta": {"reasoning": "a"}},
        {"delta": {"tool_calls": [{"index": 0}]}},
    ],
)
def test_the_first_content_of_any_kind_is_the_first_token_and_a_role_is_none(content: dict[str, Any]) -> None:
    found = answer(
        [(0.1, {"delta": {"role": "assistant", "content": ""}}, None), (0.3, content, None), (0.4, content, None)], 2, 2
    )
    assert (found.error, found.first_s, found.output_tokens, found.cached_tokens) == ("", 0.3, 2, 5)
    assert found.tokens == () and found.text and found.held_back_s == 0


def test_a_token_without_text_yet_has_come_if_the_server_counts_it() -> None:
    found = answer([(0.1, {"text": ""}, 0), (0.2, {"text": ""}, 1), (0.3, {"text": "é"}, 2), (0.31, {"text": ""}, 2)], 2, 2)
    assert (found.error, found.first_s) == ("", 0.2)
    assert found.token_gaps_s == pytest.approx((0.1,))


def test_several_tokens_in_an_event_are_as_old_as_the_count_says_or_at_worst() -> None:
    pairs = [(0.1 + 0.02 * number, {"text": "ab"}, 2 * number + 2) for number in range(4)]
    assert answer(pairs, 8, 8).held_back_s == pytest.approx(0.01)  # one of two in the first, at 10 ms each
    unknown = [(at, choice, None) for at, choice, _ in pairs]
    assert answer(unknown, 8, 8).held_back_s == pytest.approx(0.06 / 3 * 4)  # five of eight may have been in the first
    assert answer(unknown[:1], 8, 8).held_back_s == math.inf


@pytest.mark.parametrize(
    ("events", "told", "error"),
    [
        ([(0.1, {"text": "a"}, None), (0.2, {"text": "b"}, None)], None, "neither token ids nor a usage"),
        ([(0.1, {"text": "a"}, None)], 1, r"the server gave 1 of 2 tokens \(finish reason: none\)$"),
        ([], 2, "counts tokens that its stream does not have"),
        ([(0.1, {"text": "a"}, 3)], 3, "gave more than the 2 tokens"),
    ],
)
def test_an_answer_whose_tokens_are_not_known_or_not_those_asked_for_is_an_error(
    events: Sequence[Event], told: int | None, error: str
) -> None:
    assert re.search(error, answer(events, 2, told).error)


def test_token_ids_count_before_text_and_text_alone_is_refused_where_ids_are_wanted() -> None:
    both = [(0.1, {"text": "a", "token_ids": [7]}, 1), (0.2, {"text": "b", "token_ids": [8]}, 2)]
    found = answer(both, 2, 2)
    assert (found.tokens, found.text, found.output_tokens) == ((7, 8), "", 2)
    text = [(at, {"text": "a"}, count) for at, _, count in both]
    assert "it must be a vLLM that knows return_token_ids" in answer(text, 2, 2, any_text=False).error


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("ids", [False, True])
def test_a_proxy_that_passes_on_a_full_buffer_at_a_time_shows_in_the_first_one(ids: bool, counted: bool) -> None:
    """Sixteen tokens, one made every 10 ms, come in two buffers of eight: the first was 70 ms old."""
    token = {"token_ids": [7]} if ids else {"text": "a"}
    events = [(0.08 * (1 + n // 8) + 1e-6 * n, token, n + 1 if counted else None) for n in range(16)]
    assert answer(events, 16, 16).held_back_s == pytest.approx(0.07, rel=0.01)
    assert answer([(0.01 * (1 + n), *event[1:]) for n, event in enumerate(events)], 16, 16).held_back_s == 0
