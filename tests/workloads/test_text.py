"""Text to tokens. The tokenizer of these tests is made here, so nothing is downloaded."""

from pathlib import Path
from typing import Any

import pytest

from harness.workloads._text import ChatRefused, Tokenizer, load_tokenizer, plain_chat

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'alien' %}{{ raise_exception('no aliens') }}{% endif %}"
    "<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if tools %}tools {% endif %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
WORDS = ["?", "[BOS]", "<user>", "<assistant>", "hello", "world", "tools"]
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


def make(folder: Path, template: str | None) -> Tokenizer:
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer as Words
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Words(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    made: Any = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?", bos_token="[BOS]")  # type: ignore[no-untyped-call]
    made.chat_template = template
    made.save_pretrained(str(folder))
    return load_tokenizer(str(folder))


def spelt(tokens: list[int]) -> str:
    return " ".join(WORDS[token] for token in tokens)


def test_a_chat_is_written_by_the_template_which_brings_its_own_special_tokens(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, TEMPLATE)
    assert tokenizer.templated
    assert spelt(tokenizer.chat(HELLO)) == "<user> hello <assistant>"
    assert spelt(tokenizer.chat(HELLO, tools=[{"type": "function"}])) == "<user> hello tools <assistant>"
    assert spelt(tokenizer.encode("hello world")) == "[BOS] hello world"


def test_a_longer_history_begins_with_the_shorter_one(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, TEMPLATE)
    history = [*HELLO, {"role": "assistant", "content": "world"}, *HELLO]
    assert tokenizer.chat(history)[:3] == tokenizer.chat(HELLO)


def test_what_the_template_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(ChatRefused, match="the tokenizer's chat template refuses it: no aliens"):
        make(tmp_path, TEMPLATE).chat([{"role": "alien", "content": "hello"}])


def test_without_a_template_there_is_a_plain_form(tmp_path: Path) -> None:
    tokenizer = make(tmp_path, None)
    assert not tokenizer.templated
    assert len(tokenizer.chat(HELLO)) == len(tokenizer.encode(plain_chat(HELLO, None)))


def test_the_plain_form() -> None:
    history = [{"role": "system", "content": None}, *HELLO, {"role": "assistant", "content": "world"}, *HELLO]
    text = plain_chat(history, None)
    assert text == "system: \nuser: hello\nassistant: world\nuser: hello\nassistant:"
    assert text.startswith(plain_chat(history[:2], None))


@pytest.mark.parametrize(("messages", "tools"), [(HELLO, [{}]), ([{"role": "assistant", "tool_calls": [{}]}], None)])
def test_the_plain_form_has_no_tools(messages: list[dict[str, Any]], tools: list[Any] | None) -> None:
    with pytest.raises(ChatRefused, match="tools can be written only by a chat template"):
        plain_chat(messages, tools)


def test_bytes_need_no_files() -> None:
    assert load_tokenizer("bytes").encode("aé") == [97, 195, 169]
