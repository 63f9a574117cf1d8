"""From text to token ids: a tokenizer of transformers, or bytes; completions and chats."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.core.errors import SetupError, UsageError
from harness.workloads._lines import bad_line

BYTES = "bytes"
"""A tokenizer that needs no files: one token for each byte of UTF-8."""

TOKENIZER = f"a folder or a hub name that transformers.AutoTokenizer takes, or '{BYTES}' (one token per byte, for trying out)"
"""What ``tokenizer=`` takes, for descriptions."""

Message = Mapping[str, Any]
"""``role``, ``content`` and whatever else a chat template knows."""


class ChatRefused(ValueError):
    """A chat template does not take these messages."""


class Tokenizer(Protocol):
    """Text to token ids."""

    templated: bool
    """Whether chats are written by the model's own template."""

    def encode(self, text: str) -> list[int]:
        """Special tokens included, as vLLM's completions endpoint does it."""

    def chat(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> list[int]:
        """The messages and the beginning of an answer, as vLLM's chat endpoint does it. Raises ChatRefused."""


class Bytes:
    """UTF-8 as it is: about four times as many tokens as a model's own tokenizer makes of English."""

    templated = False

    def encode(self, text: str) -> list[int]:
        """One token per byte."""
        return list(text.encode())

    def chat(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> list[int]:
        """In the plain form."""
        return self.encode(plain_chat(messages, tools))


class Transformers:
    """A tokenizer of the transformers package."""

    def __init__(self, tokenizer: Any, refusals: tuple[type[Exception], ...]) -> None:
        self._tokenizer = tokenizer
        self._refusals = refusals
        self.templated = getattr(tokenizer, "chat_template", None) is not None

    def encode(self, text: str) -> list[int]:
        """With special tokens."""
        return list(self._tokenizer.encode(text))

    def chat(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> list[int]:
        """By the model's template, or in the plain form where it has none."""
        if not self.templated:
            return self.encode(plain_chat(messages, tools))
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tools=list(tools) if tools else None, add_generation_prompt=True, tokenize=False
            )
        except self._refusals as error:
            reason = str(error).strip().split("\n")[0]
            raise ChatRefused(f"the tokenizer's chat template refuses it: {reason}") from error
        # The template writes the special tokens itself.
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def plain_chat(messages: Sequence[Message], tools: Sequence[Any] | None) -> str:
    """``role: text`` lines, for tokenizers without a chat template. Raises ChatRefused for tools, which have no such form."""
    if tools or any(message.get("tool_calls") for message in messages):
        raise ChatRefused("tools can be written only by a chat template, and the tokenizer has none")
    return "".join(f"{message['role']}: {message.get('content') or ''}\n" for message in messages) + "assistant:"


def load_tokenizer(name: str) -> Tokenizer:
    """``bytes``, a folder, or a name on the hub, which transformers downloads unless HF_HUB_OFFLINE is set.

    Raises SetupError without transformers, UsageError where there is no such tokenizer.
    """
    if name == BYTES:
        return Bytes()
    try:
        from jinja2 import TemplateError
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(Path(name).expanduser()))
    except ImportError as error:
        raise SetupError(f"tokenizer={name} needs a package that does not import: {error}; install it") from error
    except (OSError, ValueError, LookupError, TypeError) as error:  # what transformers raises for a folder that is not one
        first = str(error).strip().split("\n")[0]
        raise UsageError(
            f"tokenizer={name} cannot be loaded: {first}; name a folder with tokenizer.json, or a hub name"
        ) from error
    return Transformers(tokenizer, (TemplateError, TypeError, ValueError, LookupError))


def plain_note(tokenizer: Tokenizer) -> tuple[str, ...]:
    """A sentence where chats are not written as the model would have them."""
    return () if tokenizer.templated else ("Chats are written as 'role: text' lines, since the tokenizer has no chat template.",)


def checked(tokens: Sequence[int], vocabulary: int, path: str, number: int, fix: str) -> tuple[int, ...]:
    """``tokens``, unless there are none or one is not the model's: then UsageError for line ``number``, with ``fix``."""
    if not tokens:
        raise bad_line(path, number, "the prompt has no tokens", "remove the line")
    wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise bad_line(path, number, f"token {wrong} is not in the model's vocabulary of {vocabulary:,}", fix)
    return tuple(tokens)


def chat_tokens(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Any] | None, path: str, number: int
) -> list[int]:
    """``tokenizer.chat``; what it refuses becomes a UsageError for line ``number``."""
    try:
        return tokenizer.chat(messages, tools)
    except ChatRefused as error:
        raise bad_line(path, number, str(error), "correct the messages, or name another tokenizer") from error
