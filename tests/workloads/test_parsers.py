"""Every parser, fed with garbage: it builds, or it says in one sentence which line is wrong. Nothing else comes out."""

import gzip
import importlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from trace_formats import FORMATS, IDS, Format

from harness.core.errors import UsageError
from harness.workloads.base import DataSet

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
        return form.build(file)
    except UsageError as error:
        where = re.match(rf"{re.escape(str(file))}:(\d+): .+; .+", str(error), re.DOTALL)
        allowed = ("fits the model", "has no ", "none of", "are skipped", "is empty")  # about the file as a whole
        assert where or any(phrase in str(error) for phrase in allowed), error
        assert not where or 1 <= int(where[1]) <= most, error
        return None


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_the_good_line_is_good(form: Format, file: Path) -> None:
    text = form.text()
    data = try_build(form, file, text.encode(), 2)
    assert data is not None and len(data.prompts) == 1


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
@settings(deadline=None, max_examples=30)
@given(garbage=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")))
def test_garbage_behind_a_good_line(form: Format, file: Path, garbage: bytes) -> None:
    text = form.text().encode() + garbage + b"\n"
    try_build(form, file, text, 2 + text.count(b"\n") + text.count(b"\r"))


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_one_field_replaced(form: Format, file: Path, data: st.DataObject) -> None:
    """By any value that JSON can write, or any text in CSV."""
    field = data.draw(st.sampled_from(list(form.values)))
    value = data.draw(JSON if form.json else st.text(max_size=12) | st.integers() | st.floats())
    row = form.row({**form.values, field: value})
    text = form.head + row + "\n"
    try_build(form, file, text.encode("utf-8", "replace"), 3 + row.count("\n") + row.count("\r"))
    if form.json:
        without = {name: kept for name, kept in form.values.items() if name != field}
        try_build(form, file, (form.row(without) + "\n").encode(), 1)


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_bytes_changed_removed_and_doubled(form: Format, file: Path, data: st.DataObject) -> None:
    """Anywhere in a file of two lines, compressed or not."""
    text = bytearray(form.text({}, {"id": "b", "custom_id": "b"} if form.workload in ("jsonl", "openai_batch") else {}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(st.binary(max_size=3) | st.just(bytes(text[at : at + 20]) * 2))
        text[at : at + data.draw(st.integers(0, 3))] = piece
    packed = gzip.compress(bytes(text), 1) if data.draw(st.booleans()) else bytes(text)
    try_build(form, file, packed, 5 + text.count(b"\n") + text.count(b"\r"))


LISTS = [
    ("harness.replay.server.about.About", "arms", [0]),
    ("harness.workloads.mooncake.MooncakeLine", "hash_ids", ["x"]),
    ("harness.workloads.jsonl.PromptLine", "tokens", ["x"]),
    ("harness.workloads.weka.WekaRequest", "hash_ids", ["x"]),
    ("harness.workloads.otel.Export", "resourceSpans", [0]),
]


@pytest.mark.parametrize(("model", "field", "wrong"), LISTS)
def test_a_list_of_a_million_mistakes_is_one_mistake(model: str, field: str, wrong: list[object]) -> None:
    """Or a hostile line took minutes and gigabytes to say so."""
    module, _, name = model.rpartition(".")
    with pytest.raises(ValidationError) as told:
        getattr(importlib.import_module(module), name).model_validate({field: wrong * 1000})
    assert sum(error["loc"][0] == field for error in told.value.errors()) == 1
