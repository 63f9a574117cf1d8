"""What AIPerf and others write in Mooncake's format: sessions with delays, texts, messages, no times."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.testing.workloads import build
from harness.workloads.base import Limits
from harness.workloads.mooncake import Mooncake

WIDE = Limits(vocabulary=2**31, max_tokens=32768, chunk_tokens=16)


def lines(path: Path, *values: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


def turn(session: str, ids: list[int], **time: float) -> dict[str, Any]:
    return {"session_id": session, "input_length": 512 * len(ids), "output_length": 8, "hash_ids": ids, **time}


def test_turns_of_a_session_follow_one_another_after_their_delay(tmp_path: Path) -> None:
    """Though they stand together in the file; hits count what came before in time."""
    path = lines(
        tmp_path / "t",
        turn("a", [1, 2], timestamp=1000),
        turn("a", [1, 2, 3], delay=500),
        turn("a", [1, 2, 3, 4], delay=500),
        turn("b", [1, 2, 3], timestamp=1200),
    )
    data = build(Mooncake, {"path": path}, WIDE)
    assert [(p.id, p.arrival_s, p.prefix_tokens) for p in data.prompts] == [
        ("line1", 0, 0),
        ("line4", 0.2, 1024),
        ("line2", 0.5, 1536),
        ("line3", 1, 1536),
    ]
    assert any("Of 2 requests the time is that of the session's previous turn plus the delay" in note for note in data.notes)


def test_a_trace_without_times_has_none(tmp_path: Path) -> None:
    values = [{"input_length": 1024, "output_length": 3, "hash_ids": [1, n]} for n in range(3)]
    data = build(Mooncake, {"path": lines(tmp_path / "t", *values)}, WIDE)
    assert [(p.arrival_s, p.prefix_tokens) for p in data.prompts] == [(0, 0), (0, 512), (0, 512)]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (turn("b", [1]), "some requests have a timestamp and some not"),
        (turn("a", [1], timestamp=999), "timestamp=999 lies before the 1000 of session 'a'"),
        (turn("a", [1], delay=-1), "delay=-1 is invalid"),
        ({"timestamp": 1, "text_input": "x", "input_length": 1}, "needs exactly one of input_length, text_input and messages"),
        ({"timestamp": 1, "output_length": 1}, "needs exactly one of .* and has none"),
        ({"timestamp": 2000, "text_input": "x"}, "has text, and no tokenizer is named; give tokenizer="),
    ],
)
def test_a_turn_that_makes_no_sense_is_named(tmp_path: Path, second: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"t:2: .*{message}"):
        build(Mooncake, {"path": lines(tmp_path / "t", turn("a", [1], timestamp=1000), second)}, WIDE)


def test_text_is_sent_as_it_is_and_hits_in_whole_chunks(tmp_path: Path) -> None:
    values = [{"timestamp": at, "text_input": f"{'same head ' * 4}{at}"} for at in (0, 700)]
    path = lines(tmp_path / "t", *values)
    data = build(Mooncake, {"path": path, "tokenizer": "bytes"}, WIDE)
    assert [bytes(prompt.tokens).decode() for prompt in data.prompts] == [value["text_input"] for value in values]
    assert [(p.prefix_tokens, p.output_tokens, p.arrival_s) for p in data.prompts] == [(0, 4, 0), (32, 4, pytest.approx(0.7))]
    with pytest.raises(UsageError, match=r"t:1: has text, which scale=0\.5 cannot apply to; use scale=1"):
        build(Mooncake, {"path": path, "tokenizer": "bytes", "scale": 0.5}, WIDE)
