"""Every parser, fed with garbage: it builds, or it says in one sentence which line is wrong. Nothing else comes out."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.testing.workloads import build
from harness.workloads import WORKLOADS
from harness.workloads.base import DataSet, Limits

LIMITS = Limits(vocabulary=1000, max_tokens=5000, chunk_tokens=16)


@dataclass(frozen=True)
class Format:
    """``head``: lines in front. ``row``: a good line of these values. ``values``: good values by field."""

    workload: str
    options: dict[str, Any]
    values: dict[str, Any]
    row: Callable[[dict[str, Any]], str]
    head: str = ""
    tail: str = ""


def csv(values: dict[str, Any]) -> str:
    return ",".join(str(value) for value in values.values())


TRACE = {"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}
AZURE = {"TIMESTAMP": "2023-11-16 18:15:46.6805900", "ContextTokens": 374, "GeneratedTokens": 44}
BURST = {
    "Timestamp": 5,
    "Model": "GPT-4",
    "Request tokens": 472,
    "Response tokens": 18,
    "Total tokens": 490,
    "Log Type": "API log",
}
CHAT = {"id": "a", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "World"}]}
BATCH = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Once"}}
FORMATS = [
    Format("mooncake", {}, TRACE, json.dumps),
    Format("timed_trace", {"chunk_hash_size": 512}, TRACE, json.dumps),
    Format("jsonl", {"tokenizer": "bytes"}, {"text": "one", "id": "a", "output_tokens": 3, "arrival_s": 2.5}, json.dumps),
    Format("openai_batch", {"tokenizer": "bytes"}, BATCH, json.dumps),
    Format("azure", {"shared": 16}, AZURE, csv, head=",".join(AZURE) + "\n"),
    Format("burstgpt", {}, BURST, csv, head=",".join(BURST) + "\n"),
    Format("sharegpt", {"tokenizer": "bytes"}, CHAT, json.dumps),
]
IDS = [form.workload for form in FORMATS]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parsers") / "trace"


def try_build(form: Format, file: Path, text: bytes, most: int) -> DataSet | None:
    """What is built, or None where a line between 1 and ``most`` is named."""
    file.write_bytes(text)
    try:
        return build(WORKLOADS.get(form.workload), {"path": str(file), **form.options}, LIMITS)
    except UsageError as error:
        where = re.match(rf"{re.escape(str(file))}:(\d+): .+; .+", str(error), re.DOTALL)
        allowed = ("fits the model", "has no ", "none of", "are left out", "is empty")  # about the file as a whole
        assert where or any(phrase in str(error) for phrase in allowed), error
        assert not where or 1 <= int(where[1]) <= most, error
        return None


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_the_good_line_is_good(form: Format, file: Path) -> None:
    text = form.head + form.row(form.values) + "\n"
    data = try_build(form, file, text.encode(), 2)
    assert data is not None and len(data.prompts) == 1


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
@settings(deadline=None, max_examples=30)
@given(garbage=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")))
def test_garbage_behind_a_good_line(form: Format, file: Path, garbage: bytes) -> None:
    text = (form.head + form.row(form.values) + "\n").encode() + garbage + b"\n"
    try_build(form, file, text, 2 + text.count(b"\n") + text.count(b"\r"))


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_one_field_replaced(form: Format, file: Path, data: st.DataObject) -> None:
    """By any value that JSON can write, or any text in CSV."""
    field = data.draw(st.sampled_from(list(form.values)))
    value = data.draw(JSON if form.row is json.dumps else st.text(max_size=12) | st.integers() | st.floats())
    row = form.row({**form.values, field: value})
    text = form.head + row + "\n"
    try_build(form, file, text.encode("utf-8", "replace"), 3 + row.count("\n") + row.count("\r"))
    if form.row is json.dumps:
        without = {name: kept for name, kept in form.values.items() if name != field}
        try_build(form, file, (form.row(without) + "\n").encode(), 1)
