import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.sharegpt import ShareGPT

LIMITS = Limits(vocabulary=256, max_tokens=1000, chunk_tokens=4)


def said(*messages: tuple[str, str]) -> dict[str, Any]:
    return {"id": "same", "conversations": [{"from": sender, "value": value} for sender, value in messages]}


TWO_TURNS = said(("human", "Which rivers?"), ("gpt", "The Rhine."), ("human", "And in Vienna?"), ("gpt", "The Danube."))
ONE_TURN = said(("system", "Be brief."), ("user", "What is KV?"), ("chatgpt", "Keys and values."))
NO_TURN = said(("gpt", "An answer without its question."))


def write(path: Path, items: list[Any]) -> str:
    path.write_text(json.dumps(items))
    return str(path)


def texts(options: dict[str, Any], limits: Limits = LIMITS) -> list[str]:
    return [bytes(prompt.tokens).decode() for prompt in build(ShareGPT, {"tokenizer": "bytes", **options}, limits).prompts]


class TestShareGPT(WorkloadTests):
    workload = ShareGPT

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": write(tmp_path / "s.json", [TWO_TURNS, ONE_TURN]), "tokenizer": "bytes"}


def test_each_turn_is_a_request_with_the_history_in_front(tmp_path: Path) -> None:
    path = write(tmp_path / "s.json", [TWO_TURNS, ONE_TURN])
    assert texts({"path": path}) == [
        "user: Which rivers?\nassistant:",
        "user: Which rivers?\nassistant: The Rhine.\nuser: And in Vienna?\nassistant:",
        "system: Be brief.\nuser: What is KV?\nassistant:",
    ]
    data = build(ShareGPT, {"path": path, "tokenizer": "bytes"}, LIMITS)
    assert [(p.id, p.prefix_tokens, p.arrival_s) for p in data.prompts] == [("c1t1", 0, 0), ("c1t2", 28, 0), ("c2t1", 0, 0)]
    assert data.notes == ("Chats are written as 'role: text' lines, since the tokenizer has no chat template.",)


def test_two_messages_of_the_user_in_a_row_are_one_request(tmp_path: Path) -> None:
    items = [said(("human", "One"), ("human", "Two"), ("gpt", "Three"), ("human", "Four"))]
    sent = texts({"path": write(tmp_path / "s.json", items)})
    assert [text.count("user:") for text in sent] == [2, 3]


def test_turns_can_be_chosen_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "s.json", [TWO_TURNS, ONE_TURN, NO_TURN, {"conversations": []}])
    data = build(ShareGPT, {"path": path, "tokenizer": "bytes", "min_turns": 2, "max_turns": 1}, LIMITS)
    assert [prompt.id for prompt in data.prompts] == ["c1t1"]
    assert "Skipped 1 conversations: they have fewer than 2 turns." in data.notes
    assert "Skipped 2 conversations: they have no message of a user." in data.notes


def test_limit_counts_turns_and_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("[" + json.dumps(TWO_TURNS) + ", broken")
    assert len(texts({"path": str(path), "limit": 2})) == 2
    with pytest.raises(UsageError, match=r"s\.json:1: an item that is no object"):
        texts({"path": str(path)})


def test_objects_one_a_line_are_read_as_well(tmp_path: Path) -> None:
    array = texts({"path": write(tmp_path / "s.json", [TWO_TURNS, ONE_TURN])})
    lines = tmp_path / "s.jsonl"
    lines.write_text(json.dumps(TWO_TURNS) + "\n" + json.dumps(ONE_TURN, indent=1) + "\n")
    assert texts({"path": str(lines)}) == array


MALFORMED = [
    ({"id": "x"}, "the field 'conversations' is missing"),
    ({"conversations": "hello"}, "conversations='hello' is invalid"),
    ({"conversations": [{"value": "hello"}]}, "the field 'conversations.0.from' is missing"),
    ({"conversations": [{"from": "human", "value": 3}]}, "conversations.0.value=3 is invalid"),
    ({"messages": [{"role": "user", "content": None}]}, "None is invalid"),
    (said(("narrator", "Once")), "the role 'narrator' is unknown; known: system, human"),
]


@pytest.mark.parametrize(("item", "message"), MALFORMED)
def test_a_malformed_conversation_is_counted_and_named_by_its_place(tmp_path: Path, item: dict[str, Any], message: str) -> None:
    path = tmp_path / "s.json"
    path.write_text("[\n" + json.dumps(ONE_TURN) + ",\n\n" + json.dumps(item) + ",\n" + json.dumps(item) + "\n]\n")
    data = build(ShareGPT, {"path": str(path), "tokenizer": "bytes"}, LIMITS)
    assert len(data.prompts) == 1
    assert f"Skipped 2 conversations: they are malformed, the first is conversation 2 at {path}:4: " in data.notes[0]
    assert message in data.notes[0]
    with pytest.raises(UsageError, match=r"all 1 conversations are skipped \(they are malformed, the first is conversation 1"):
        texts({"path": write(path, [item])})


def test_a_token_that_is_not_the_models_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "s.json", [said(("human", "é"))])
    with pytest.raises(UsageError, match=r"s\.json:1: token 195 is not in the .* of 128; tokenizer=bytes is not the model's"):
        texts({"path": path}, Limits(vocabulary=128, max_tokens=1000, chunk_tokens=4))


@pytest.mark.parametrize("name", ["conversations", "messages", "conversation"])
@pytest.mark.parametrize(("sender", "value"), [("from", "value"), ("role", "content")])
def test_kin_with_other_names_reads_alike(tmp_path: Path, name: str, sender: str, value: str) -> None:
    renamed = {name: [{sender: said["from"], value: said["value"]} for said in TWO_TURNS["conversations"]]}
    plain = texts({"path": write(tmp_path / "s.json", [TWO_TURNS])})
    assert texts({"path": write(tmp_path / "r.json", [renamed])}) == plain


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "s.json", [said(("human", "a\ud83d\ude00b\ud800c"))])
    assert texts({"path": path}) == ["user: a\U0001f600b\ufffdc\nassistant:"]


@pytest.mark.parametrize("items", [[], [NO_TURN]])
def test_a_file_without_turns_is_refused(tmp_path: Path, items: list[Any]) -> None:
    with pytest.raises(UsageError, match=r"s\.json has no prompts: .*; name a file with turns"):
        texts({"path": write(tmp_path / "s.json", items)})


def test_the_tokenizer_is_required(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sharegpt needs the option 'tokenizer'"):
        build(ShareGPT, {"path": write(tmp_path / "s.json", [ONE_TURN])}, LIMITS)
