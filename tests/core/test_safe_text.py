"""Names from outside are shown as they are, and do nothing."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.text import markdown, printable, shortened, slug, without_secrets, wrapped


@given(st.text())
def test_nothing_printable_steers_a_terminal(text: str) -> None:
    assert not {unicodedata.category(char) for char in printable(text)} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_can_be_shown_is_left_alone(text: str) -> None:
    assert printable(text) == text


def test_an_escape_code_is_written_out() -> None:
    assert printable("\x1b[31mred\u202e") == r"\x1b[31mred\u202e"


@given(st.text(), st.integers(8, 40), st.integers(1, 4))
@settings(deadline=None)
def test_wrapped_text_stays_within_its_box(text: str, width: int, lines: int) -> None:
    out = wrapped(printable(text), width, lines).split("\n")
    assert len(out) <= lines
    assert all(len(line) <= width for line in out)


@given(st.text(alphabet="abc:,=8", max_size=24))
def test_a_name_that_fits_loses_nothing(name: str) -> None:
    assert wrapped(name, 26, 4).replace("\n", "") == name


def test_a_name_breaks_behind_its_punctuation() -> None:
    assert wrapped("layerwise:depth=4,layers_per_fetch=1", 26) == "layerwise:depth=4,\nlayers_per_fetch=1"


@given(st.text(min_size=1), st.integers(3, 50))
def test_a_shortened_text_keeps_both_ends(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) == min(len(text), most)
    assert (short[0], short[-1]) == (text[0], text[-1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a|b", r"a\|b"),
        ("*bold* _it_ `code` [x](y) $m$ ~s~", r"\*bold\* \_it\_ \`code\` \[x\](y) \$m\$ \~s\~"),
        ("latency_ms=2&stream_mb_s=300", "latency_ms=2&stream_mb_s=300"),
        ("&lt;", "&amp;lt;"),
        ("line\nbreak", r"line\\nbreak"),
    ],
)
def test_markdown_shows_markup_as_text(text: str, shown: str) -> None:
    assert markdown(text) == shown


@given(st.text())
def test_no_html_tag_survives(text: str) -> None:
    assert not re.search("[<>]", markdown(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--store redis://user:pw@host:1/0 --pairs 6", "--store redis://user:***@host:1/0 --pairs 6"),
        ("'shaped+redis://:pw@host?latency_ms=2'", "'shaped+redis://:***@host?latency_ms=2'"),
        ("file:///tmp/kv and http://host:80/a", "file:///tmp/kv and http://host:80/a"),
        ("s3://key:se:cret@bucket", "s3://key:***@bucket"),
    ],
)
def test_passwords_in_urls_are_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_slug_is_letters_digits_and_single_dashes() -> None:
    assert slug("lmcache:mode=layerwise@again") == "lmcache-mode-layerwise-again"
    assert slug("@!") == ""


def test_a_command_in_our_sentences_stays_code_in_markdown() -> None:
    assert markdown("make one with `ttft calibrate`") == "make one with `ttft calibrate`"
    for other in ("`rm`", "`ttft *x*`", "`ttft calibrate", "`ttft [a](b)`"):
        assert "\\`" in markdown(other)
