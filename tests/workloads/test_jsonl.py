import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.jsonl import Jsonl

LIMITS = Limits(vocabulary=100, max_tokens=64, chunk_tokens=4)


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


class TestJsonl(WorkloadTests):
    workload = Jsonl

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        head = list(range(40))
        return {"path": write(tmp_path / "prompts.jsonl", [{"tokens": head + [n]} for n in range(3)])}


def test_what_a_line_says_is_kept(tmp_path: Path) -> None:
    lines = [
        {"tokens": [1, 2, 3], "id": "a", "prefix_tokens": 2, "output_tokens": 9, "arrival_s": 0.5},
        {"tokens": [4], "arrival_s": 0.5},
    ]
    data = build(Jsonl, {"path": write(tmp_path / "p.jsonl", lines), "output": 3}, LIMITS)
    first, second = data.prompts
    assert (first.id, first.tokens, first.prefix_tokens, first.output_tokens, first.arrival_s) == ("a", (1, 2, 3), 2, 9, 0.5)
    assert (second.id, second.prefix_tokens, second.output_tokens) == ("line2", 0, 3)


def test_hits_are_whole_chunks_of_earlier_lines(tmp_path: Path) -> None:
    head = list(range(10))
    lines = [{"tokens": head}, {"tokens": head}, {"tokens": [9, *head]}, {"tokens": head[:6] + [50, 51]}, {"tokens": head[:3]}]
    data = build(Jsonl, {"path": write(tmp_path / "p.jsonl", lines)}, LIMITS)
    assert [prompt.prefix_tokens for prompt in data.prompts] == [0, 8, 0, 4, 0]


def test_skipped_lines_count_for_hits(tmp_path: Path) -> None:
    lines = [{"tokens": [7] * 65}, {"tokens": [7] * 9}]
    data = build(Jsonl, {"path": write(tmp_path / "p.jsonl", lines)}, LIMITS)
    assert [(prompt.id, prompt.prefix_tokens) for prompt in data.prompts] == [("line2", 8)]


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"tokens": [1]}\n{"tokens": [2]}\nbroken\n')
    assert len(build(Jsonl, {"path": str(path), "limit": 2}, LIMITS).prompts) == 2
    with pytest.raises(UsageError, match=r"p\.jsonl:3: not one JSON object"):
        build(Jsonl, {"path": str(path)}, LIMITS)


GOOD = {"tokens": [1, 2, 3], "arrival_s": 2.0, "id": "first"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"arrival_s": 3}, "needs exactly one of tokens and text"),
        ({"tokens": [1], "text": "one"}, "needs exactly one of tokens and text"),
        ({"text": "one"}, r"has text, and no tokenizer is named; give tokenizer="),
        ({"tokens": [], "arrival_s": 3}, "the prompt has no tokens"),
        ({"tokens": [1, 100], "arrival_s": 3}, "token 100 is not in the model's vocabulary of 100"),
        ({"tokens": [-1], "arrival_s": 3}, "token -1 is not in"),
        ({"tokens": [1.5]}, r"tokens\.0=1\.5 is invalid"),
        ({"tokens": ["1"]}, r"tokens\.0='1' is invalid"),
        ({"tokens": "1 2"}, "tokens='1 2' is invalid"),
        ({"tokens": [1], "prefix_token": 1}, "unknown field 'prefix_token'; known: tokens, text"),
        ({"tokens": [1], "prefix_tokens": 2, "arrival_s": 3}, "prefix_tokens=2 is more than the 1 tokens"),
        ({"tokens": [1], "prefix_tokens": -1}, "prefix_tokens=-1 is invalid"),
        ({"tokens": [1], "output_tokens": 0}, "output_tokens=0 is invalid"),
        ({"tokens": [1], "arrival_s": -1}, "arrival_s=-1 is invalid"),
        ({"tokens": [1], "arrival_s": 1}, "arrival_s=1 lies before the 2 of an earlier line"),
        ({"tokens": [1]}, "some lines have arrival_s and some not"),
        ({"tokens": [1], "arrival_s": 3, "id": "first"}, "the id 'first' is on line 1 too"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"p.jsonl:2: {message}"):
        build(Jsonl, {"path": write(tmp_path / "p.jsonl", [GOOD, line])}, LIMITS)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"p\.jsonl has no prompts"):
        build(Jsonl, {"path": write(tmp_path / "p.jsonl", [])}, LIMITS)


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    """A folder with a tokenizer of three words."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"?": 0, "one": 1, "two": 2, "many": 100}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    folder = tmp_path / "tokenizer"
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(str(folder))  # type: ignore[no-untyped-call]
    return str(folder)


def test_text_is_tokenised(tmp_path: Path, tokenizer: str) -> None:
    path = write(tmp_path / "p.jsonl", [{"text": "two one three"}, {"tokens": [5]}])
    data = build(Jsonl, {"path": path, "tokenizer": tokenizer}, LIMITS)
    assert [prompt.tokens for prompt in data.prompts] == [(2, 1, 0), (5,)]


def test_a_tokenizer_of_another_model_is_named(tmp_path: Path, tokenizer: str) -> None:
    path = write(tmp_path / "p.jsonl", [{"text": "many"}])
    with pytest.raises(UsageError, match=r"p\.jsonl:1: token 100 .*tokenizer is not the model's"):
        build(Jsonl, {"path": path, "tokenizer": tokenizer}, LIMITS)


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "empty").mkdir()
    path = write(tmp_path / "p.jsonl", [{"text": "one"}])
    with pytest.raises(UsageError, match=r"tokenizer=.*empty cannot be loaded: .*; name a folder"):
        build(Jsonl, {"path": path, "tokenizer": str(tmp_path / "empty")}, LIMITS)
