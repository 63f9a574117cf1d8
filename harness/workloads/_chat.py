"""Messages as chats write them: text, or parts of which only the text can be replayed. What is skipped is counted."""

from collections import Counter

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.core.options import Listed
from harness.workloads._text import Message

TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of parts that are text, in the chat and in the responses API."""


class Part(BaseModel):
    """One part of a message."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(min_length=1, max_length=100)
    text: str | None = None

    @model_validator(mode="after")
    def _has_text(self) -> "Part":
        if self.type in TEXT_PARTS and self.text is None:
            raise ValueError(f"a part of type {self.type} has no text")
        return self


Content = str | Listed[Part]


class ChatMessage(BaseModel):
    """One message; what it has beside role and content goes to the chat template as it is."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: Content | None = None

    def message(self, dropped: Counter[str]) -> Message:
        """For a chat template. ``dropped`` counts the parts that are no text, by type."""
        content = None if self.content is None else text_of(self.content, dropped)
        return {**(self.model_extra or {}), "role": self.role, "content": content}


def text_of(content: Content, dropped: Counter[str]) -> str:
    """The text, its parts joined by line breaks, as vLLM does it for templates that take no parts.

    Half a surrogate pair, which JSON can write and no tokenizer takes, becomes U+FFFD.
    """
    if isinstance(content, list):
        dropped.update(part.type for part in content if part.type not in TEXT_PARTS)
        content = "\n".join(part.text or "" for part in content if part.type in TEXT_PARTS)
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def dropped_note(dropped: Counter[str]) -> tuple[str, ...]:
    """A sentence on the parts that were skipped; none if there were none."""
    if not dropped:
        return ()
    images = sum(count for kind, count in dropped.items() if "image" in kind)
    counts = [f"{images:,} images"] if images else []
    counts += [f"{count:,} parts of type {kind}" for kind, count in sorted(dropped.items()) if "image" not in kind]
    return (f"Skipped {' and '.join(counts)} in messages: only text is replayed, so these prompts are shorter than they were.",)
