"""``name:option=value,...``: what users write, and what they are told when it is wrong."""

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from harness.core.errors import UsageError
from harness.core.options import Options, describe_options, parse_options, split_spec, type_names
from harness.core.text import printable

WORDS = st.text(alphabet="abcxyz019_-./", min_size=1, max_size=8)


class Example(Options):
    """Options as an engine might declare them."""

    depth: int = Field(4, ge=1, description="layers in flight")
    pool: int | Literal["default"] = Field(0, description="threads")
    path: str = Field(description="a file")


@settings(deadline=None)
@given(WORDS, st.dictionaries(WORDS, WORDS, max_size=5))
def test_a_spec_comes_back(name: str, options: dict[str, str]) -> None:
    text = name + (":" + ",".join(f"{key}={value}" for key, value in options.items()) if options else "")
    assert split_spec(text) == (name, options)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_refused_in_a_sentence(text: str) -> None:
    try:
        name, options = split_spec(text)
    except UsageError as error:
        assert printable(text) in str(error) or printable(text.strip()) in str(error)
    else:
        assert name
        assert all(options)


def test_a_value_may_hold_what_paths_and_urls_hold() -> None:
    assert split_spec("mooncake:path=/data/a:b=c.jsonl,limit=4") == ("mooncake", {"path": "/data/a:b=c.jsonl", "limit": "4"})


def test_blanks_around_names_do_not_matter() -> None:
    assert split_spec(" layerwise : depth = 4 , loops=2 ") == ("layerwise", {"depth": "4", "loops": "2"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names nothing"),
        (":depth=4", "names nothing"),
        ("layerwise:depth", "'depth' in 'layerwise:depth' is not option=value"),
        ("layerwise:=4", "is not option=value"),
        ("layerwise: =4", "is not option=value"),
        ("layerwise:depth=4,depth=5", "option 'depth' is listed twice"),
        ("layerwise:depth=4, depth=5", "option 'depth' is listed twice"),
    ],
)
def test_a_malformed_spec_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split_spec(text)


def test_texts_become_values() -> None:
    options = parse_options(Example, {"depth": "8", "pool": "default", "path": "x"}, "engine 'e'")
    assert options == Example(depth=8, pool="default", path="x")
    assert parse_options(Example, {"pool": "3", "path": "x"}, "engine 'e'").pool == 3


def test_options_cannot_be_changed() -> None:
    options = Example(path="x")
    with pytest.raises(ValidationError, match="frozen"):
        options.depth = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "x", "deep": "4"}, r"unknown option of engine 'e' 'deep' \(did you mean 'depth'\?\); known: depth, path, pool"),
        ({}, "engine 'e' needs the option 'path'"),
        ({"path": "x", "depth": "0"}, r"engine 'e': depth='0' is invalid: .*greater than or equal to 1"),
        ({"path": "x", "depth": "many"}, r"engine 'e': depth='many' is invalid: .*valid integer"),
    ],
)
def test_a_wrong_option_is_named_with_its_fix(values: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_options(Example, values, "engine 'e'")
    assert "\n" not in str(caught.value)


def test_options_can_be_listed() -> None:
    assert describe_options(Example) == [
        ("depth", "4", "layers in flight"),
        ("pool", "0", "threads"),
        ("path", "required", "a file"),
    ]


def test_types_have_short_names() -> None:
    assert type_names(int | str) == "int or str"
    assert type_names(float) == "float"
