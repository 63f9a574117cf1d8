"""Traces of agents: WEKA's conversations and OpenTelemetry's spans."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.experiment.cache_state import expected_hits
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.otel import Otel
from harness.workloads.weka import Weka

DATA = Path(__file__).parents[1] / "data" / "traces"
LIMITS = Limits(vocabulary=2**31, max_tokens=10_000, chunk_tokens=1)


class TestWeka(WorkloadTests):
    workload = Weka

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"path": str(DATA / "weka.json")}


class TestOtel(WorkloadTests):
    workload = Otel

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"path": str(DATA / "otel.jsonl"), "shared": 32}


def test_conversations_run_side_by_side_and_share_nothing_with_one_another() -> None:
    """A subagent's times count from its start; ids mean something inside one conversation; they may stop early."""
    data = build(Weka, {"path": str(DATA / "weka.json")}, LIMITS)
    assert [(p.id, p.arrival_s, len(p.tokens), p.prefix_tokens) for p in data.prompts] == [
        ("request1", 0, 150, 0),
        ("request2", 0.5, 130, 0),
        ("request3", 15, 150, 128),
        ("request4", 21, 128, 64),
        ("request5", 40, 200, 128),
    ]
    assert expected_hits(data, "natural", 1) == [0, 0, 128, 64, 128]
    assert any("the ids end before the prompt does" in note for note in data.notes)


def test_a_global_scope_shares_between_conversations(tmp_path: Path) -> None:
    one = {"block_size": 64, "hash_id_scope": "global", "requests": [{"t": 0, "type": "s", "in": 64, "out": 1, "hash_ids": [7]}]}
    (tmp_path / "w.json").write_text(json.dumps([one, one]))
    data = build(Weka, {"path": str(tmp_path / "w.json")}, LIMITS)
    assert [prompt.prefix_tokens for prompt in data.prompts] == [0, 64]


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ({"block_size": 16, "requests": []}, "block_size=16, and 64 was expected; give block_size=16"),
        ({"requests": []}, "the field 'block_size' is missing"),
        ({"block_size": 64, "requests": [{"t": -1, "type": "s"}]}, r"requests\.0\.t=-1 is invalid"),
        (
            {"block_size": 64, "requests": [{"t": 1, "type": "s", "in": 64, "hash_ids": [1, 2]}]},
            "hash_ids has 2 entries, too many",
        ),
    ],
)
def test_a_bad_conversation_is_named(tmp_path: Path, conversation: dict[str, Any], message: str) -> None:
    (tmp_path / "w.json").write_text("\n" + json.dumps(conversation))
    with pytest.raises(UsageError, match=rf"w\.json:2: {message}"):
        build(Weka, {"path": str(tmp_path / "w.json")}, LIMITS)


def test_spans_of_calls_become_requests_in_the_order_of_their_starts() -> None:
    """Not those of agents, which sum up the calls below them, nor other spans; old names of the attributes are read."""
    data = build(Otel, {"path": str(DATA / "otel.jsonl")}, LIMITS)
    assert [(p.id, p.arrival_s, len(p.tokens), p.output_tokens) for p in data.prompts] == [
        ("call1", 0, 800, 2),
        ("call2", pytest.approx(1), 1200, 4),
    ]


@pytest.mark.parametrize(
    ("tokens", "start", "message"),
    [
        ("-5", "1", "gen_ai.usage.input_tokens='-5' is no whole number"),
        ("9" * 5000, "1", "gen_ai.usage.input_tokens='999"),
        (True, "1", "gen_ai.usage.input_tokens=True is no whole number"),
        ("5", "soon", "startTimeUnixNano='soon' is no whole number"),
    ],
)
def test_a_bad_span_is_named(tmp_path: Path, tokens: object, start: str, message: str) -> None:
    attribute = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": tokens}}
    span = {"startTimeUnixNano": start, "attributes": [attribute]}
    (tmp_path / "o.jsonl").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    with pytest.raises(UsageError, match=rf"o\.jsonl:1: {message}"):
        build(Otel, {"path": str(tmp_path / "o.jsonl")}, LIMITS)
