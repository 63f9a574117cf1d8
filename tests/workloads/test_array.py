"""The reader of JSON arrays, against Python's own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.workloads import _array
from harness.workloads._array import read_items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=6
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("array") / "a.json"


@settings(deadline=None)
@given(items=OBJECTS, indent=st.none() | st.integers(0, 2), piece=st.integers(1, 40))
def test_items_and_their_lines_are_those_of_the_file(file: Path, items: list[Any], indent: int | None, piece: int) -> None:
    """However the file is cut into pieces."""
    file.write_text(json.dumps(items, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_array, "_PIECE", piece)
        found = list(read_items(str(file)))
    assert [item for _, item in found] == items
    lines = file.read_text(encoding="utf-8").split("\n")
    assert all(lines[line - 1].lstrip(" [").startswith("{") for line, _ in found)


@settings(deadline=None)
@given(text=st.text(alphabet='[]{},:"a1 \n\\', max_size=30), piece=st.integers(1, 10))
def test_what_python_cannot_read_is_an_error_with_a_line(file: Path, text: str, piece: int) -> None:
    """And what it can read is read alike, or refused as no array of objects."""
    file.write_text(text, encoding="utf-8")
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_array, "_PIECE", piece)
        try:
            found = [item for _, item in read_items(str(file))]
        except UsageError as error:
            assert re.match(rf"{re.escape(str(file))}:\d+: .+; .+", str(error))
            found = None
    if isinstance(expected, list) and all(isinstance(item, dict) for item in expected):
        assert found == expected
    elif expected is not None:
        assert found is None or found == [expected]  # a single object is a file of one object


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "not a JSON array of objects"),
        ("7", 1, "not a JSON array of objects"),
        ("[\n{},\n7]", 3, "an item that is no object"),
        ("[\n{}\n{}]", 3, "the array does not go on with a comma"),
        ("[{},\n]", 2, "a comma behind the last item"),
        ("[\n{}\n", 3, "the file ends inside the array"),
        ("[{}\n]\n[", 3, "more behind the array"),
        ("{}\n]", 2, "a ] that closes nothing"),
        ('[\n{"a":\n\n x}]', 4, "not JSON: Expecting value"),
        ('[{"a": ' + "[" * 100_000, 1, "nested too deeply"),
        ('[{"a": ' + "1" * 5000 + "}]", 1, "nested too deeply or has too long a number"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"a\.json:{line}: .*{re.escape(message)}"):
        list(read_items(str(path)))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{},\n{},\n{"a": "\xff"}]')
    with pytest.raises(UsageError, match=r"a\.json:3: not text in UTF-8"):
        list(read_items(str(path)))


def test_a_missing_bracket_does_not_read_all_that_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_array, "_PIECE", 10)
    monkeypatch.setattr(_array, "_LONGEST", 100)
    path = tmp_path / "a.json"
    path.write_text('[{"a": [1, 2}, ' + "{}, " * 1000)
    with pytest.raises(UsageError, match=r"a\.json:1: not JSON"):
        list(read_items(str(path)))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.json: No such file"):
        list(read_items(str(tmp_path / "none.json")))
