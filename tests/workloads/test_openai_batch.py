import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.openai_batch import OpenAIBatch

LIMITS = Limits(vocabulary=256, max_tokens=1000, chunk_tokens=4)
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def line(name: str, body: dict[str, Any], url: str = "/v1/chat/completions") -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": url, "body": {"model": "any", **body}}


def chat(name: str, content: Any, **more: Any) -> dict[str, Any]:
    return line(name, {"messages": [SYSTEM, {"role": "user", "content": content}], **more})


LINES = [
    chat("a", "Hello", max_tokens=1000, temperature=0.3),
    chat("b", [{"type": "text", "text": "What"}, {"type": "text", "text": "now?"}], max_completion_tokens=2),
    line("c", {"prompt": "Once upon"}, "/v1/completions"),
    line("d", {"prompt": [5, 6, 7]}, "/v1/completions"),
]


def write(path: Path, lines: list[dict[str, Any]] = LINES) -> str:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return str(path)


class TestOpenAIBatch(WorkloadTests):
    workload = OpenAIBatch

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": write(tmp_path / "b.jsonl"), "tokenizer": "bytes"}


def test_lines_become_prompts(tmp_path: Path) -> None:
    data = build(OpenAIBatch, {"path": write(tmp_path / "b.jsonl"), "tokenizer": "bytes"}, LIMITS)
    head = "system: You are a helpful assistant.\nuser: "
    assert [bytes(prompt.tokens).decode() for prompt in data.prompts] == [
        f"{head}Hello\nassistant:",
        f"{head}What\nnow?\nassistant:",
        "Once upon",
        "\x05\x06\x07",
    ]
    assert [(p.id, p.prefix_tokens, p.output_tokens) for p in data.prompts] == [
        ("a", 0, 4),
        ("b", len(head) // 4 * 4, 2),
        ("c", 0, 4),
        ("d", 0, 4),
    ]
    assert data.notes == ("Chats are written as 'role: text' lines, since the tokenizer has no chat template.",)


def test_token_ids_need_no_tokenizer(tmp_path: Path) -> None:
    data = build(OpenAIBatch, {"path": write(tmp_path / "b.jsonl", LINES[3:])}, LIMITS)
    assert [prompt.tokens for prompt in data.prompts] == [(5, 6, 7)]
    assert data.notes == ()


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "b.jsonl"))
    path.write_text(path.read_text() + "broken\n")
    assert len(build(OpenAIBatch, {"path": str(path), "tokenizer": "bytes", "limit": 4}, LIMITS).prompts) == 4


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (chat("first", "again"), "the custom_id 'first' is on line 1 too"),
        ({**chat("x", "y"), "method": "GET"}, "method='GET' is invalid"),
        ({**chat("x", "y"), "extra": 1}, "unknown field 'extra'; known: custom_id, method, url, body"),
        ({"custom_id": "x", "method": "POST", "url": "/v1/completions"}, "the field 'body' is missing"),
        (line("x", {"input": "y"}, "/v1/chats"), "url='/v1/chats' is unknown; known: /v1/chat/completions"),
        (line("x", {"messages": [SYSTEM]}, "/v1/completions"), r"the field 'body\.prompt' is missing"),
        (line("x", {"prompt": "y"}), r"the field 'body\.messages' is missing"),
        (line("x", {"messages": []}), r"body\.messages=\[\] is invalid"),
        (line("x", {"messages": [{"content": "y"}]}), r"the field 'body\.messages\.0\.role' is missing"),
        (chat("x", [{"type": "text"}]), r"body\.messages\.1\.content.*a part of type text has no text"),
        (line("x", {"input": 7}, "/v1/responses"), r"messages=7 is invalid"),
        (chat("x", "y", max_tokens=0), r"body\.max_tokens=0 is invalid"),
        (chat("x", "y", tools=[{"type": "function"}]), "tools can be written only by a chat template"),
        (line("x", {"prompt": ["a", "b"]}, "/v1/completions"), r"body\.prompt.*='a' is invalid"),
        (line("x", {"prompt": [300]}, "/v1/completions"), "token 300 is not in the model's vocabulary of 256"),
        (line("x", {"prompt": ""}, "/v1/completions"), "the prompt has no tokens"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "b.jsonl", [chat("first", "hello"), entry])
    with pytest.raises(UsageError, match=rf"b\.jsonl:2: {message}"):
        build(OpenAIBatch, {"path": path, "tokenizer": "bytes"}, LIMITS)


def test_text_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"b\.jsonl:1: has text in body\.messages, and no tokenizer is named; give tokenizer="):
        build(OpenAIBatch, {"path": write(tmp_path / "b.jsonl")}, LIMITS)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"b\.jsonl has no requests"):
        build(OpenAIBatch, {"path": write(tmp_path / "b.jsonl", [])}, LIMITS)


def test_paths_of_other_servers_and_endpoints_without_a_first_token(tmp_path: Path) -> None:
    """Azure's paths have no version; embeddings in the same file are skipped and counted; the responses API is read."""
    azure = "https://me.example/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    lines = [
        line("a", {"messages": [SYSTEM]}, "/chat/completions"),
        line("b", {"messages": [SYSTEM]}, azure),
        line("c", {"input": ["x", "y"]}, "/v1/embeddings"),
        line("d", {"input": "Hello", "instructions": "Be brief.", "max_output_tokens": 1}, "/v1/responses"),
        line("e", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]}, "/v1/responses"),
    ]
    data = build(OpenAIBatch, {"path": write(tmp_path / "b.jsonl", lines), "tokenizer": "bytes"}, LIMITS)
    assert [(prompt.id, prompt.output_tokens) for prompt in data.prompts] == [("a", 4), ("b", 4), ("d", 1), ("e", 4)]
    assert [bytes(prompt.tokens).decode() for prompt in data.prompts[2:]] == [
        "system: Be brief.\nuser: Hello\nassistant:",
        "user: Hi\nassistant:",
    ]
    assert "Skipped 1 requests: /v1/embeddings gives no first token." in data.notes
    with pytest.raises(UsageError, match=r"has no requests to send: those of /v1/embeddings give no first token"):
        build(OpenAIBatch, {"path": write(tmp_path / "b.jsonl", lines[2:3]), "tokenizer": "bytes"}, LIMITS)
