"""Conversations in ShareGPT's form: every turn sends the whole history again, so later turns hit what earlier ones left.

The format, as vLLM 0.32 reads it (``ShareGPTDataset`` in vllm/benchmarks/datasets/datasets.py) and as FastChat and
axolotl write it: a JSON array of ``{"id": ..., "conversations": [{"from": "human", "value": ...}, {"from": "gpt",
"value": ...}, ...]}``, perhaps with ``{"from": "system", ...}`` in front. Its kin writes ``role`` and ``content`` for
``from`` and ``value``, and ``messages`` (UltraChat, axolotl) or ``conversation`` (LMSYS-Chat-1M, WildChat) for
``conversations``. vLLM's benchmark sends only the first turn of each conversation, which has nothing to hit; here each
turn is a request. Objects one per line, without the array, are read as well.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from harness.core.errors import UsageError
from harness.core.options import Listed
from harness.workloads._array import read_items
from harness.workloads._chat import Content, dropped_note, text_of
from harness.workloads._fit import FittedOptions, fit_prompts, with_notes
from harness.workloads._lines import bad_line, shortened, validated
from harness.workloads._text import TOKENIZER, Message, Tokenizer, chat_tokens, checked, load_tokenizer, plain_note
from harness.workloads.base import DataSet, Limits, Prompt, Workload, WorkloadOptions
from harness.workloads.ideal import SeenChunks

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "tool": "tool",
}
"""``from`` or ``role`` in the published files, in lower case -> the role in a chat."""

NO_TURN = "they have no message of a user"
IMAGE = "<image>"
"""Stands for a picture in the text of LLaVA's files."""


class Said(BaseModel):
    """One message. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    sender: str = Field(validation_alias=AliasChoices("from", "role"))
    value: Content = Field(validation_alias=AliasChoices("value", "content"))


class Conversation(BaseModel):
    """One conversation. Other fields are ignored, ``id`` too: published files repeat ids."""

    model_config = ConfigDict(frozen=True)

    conversations: Listed[Said] = Field(validation_alias=AliasChoices("conversations", "messages", "conversation"))


class ShareGPTOptions(FittedOptions):
    """Options of ``sharegpt``."""

    path: str = Field(description="the file: a JSON array of conversations, or one per line")
    tokenizer: str = Field(description=TOKENIZER)
    limit: int | None = Field(None, ge=1, description="read at most this many prompts (turns)")
    min_turns: int = Field(1, ge=1, description="use only conversations with at least this many turns of the user's")
    max_turns: int | None = Field(None, ge=1, description="send at most this many turns of each conversation, the first ones")
    output: int = Field(4, ge=1, description="tokens to generate for each turn")


@dataclass(slots=True)
class _Left:
    """What was skipped: conversations by reason, malformed ones with the first of them, parts that are no text."""

    skipped: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    first: str = ""
    dropped: Counter[str] = field(default_factory=Counter)

    def reasons(self) -> list[tuple[int, str]]:
        """(conversations, why) for each reason."""
        bad = [(self.malformed, f"they are malformed, the first is {self.first}")] if self.malformed else []
        return [*bad, *((count, why) for why, count in self.skipped.items())]


class ShareGPT(Workload):
    """ShareGPT's conversations (JSON), one after the other, each turn of the user's a request with the history in front.

    The history has the answers of the file, not what the model said. The hit is what earlier requests of the file
    would have left: the longest run of whole chunks seen before. There are no arrival times. A malformed conversation
    is skipped, counted and named.
    """

    name: ClassVar[str] = "sharegpt"
    Options: ClassVar[type[WorkloadOptions]] = ShareGPTOptions
    options: ShareGPTOptions

    def build(self, limits: Limits) -> DataSet:
        """All turns. Raises UsageError with the line if the file is not JSON or a token is not the model's, and if
        nothing is left; SetupError without transformers."""
        o, left = self.options, _Left()
        tokenizer = load_tokenizer(o.tokenizer)
        prompts = self._prompts(limits, tokenizer, left)
        data = fit_prompts(prompts, limits, o.over_long, o.path, "max_turns=1")
        notes = [f"Skipped {count:,} conversations: {why}." for count, why in left.reasons()]
        return with_notes(data, [*notes, *dropped_note(left.dropped), *plain_note(tokenizer)])

    def _prompts(self, limits: Limits, tokenizer: Tokenizer, left: _Left) -> Iterator[Prompt]:
        o, seen = self.options, SeenChunks(limits.chunk_tokens)
        count = number = 0
        fix = f"tokenizer={o.tokenizer} is not the model's"
        for number, (line, item) in enumerate(read_items(o.path), start=1):
            try:
                turns = [chat_tokens(tokenizer, turn, None, o.path, line) for turn in self._turns(line, item, left)]
            except UsageError as error:
                left.malformed += 1
                left.first = left.first or f"conversation {number:,} at {error}"
                continue
            for turn, tokens in enumerate(turns, start=1):
                prompt = checked(tokens, limits.vocabulary, o.path, line, fix)
                yield Prompt(f"c{number}t{turn}", prompt, seen.visit(prompt), o.output)
                count += 1
                if count == o.limit:
                    return
        if not count:
            whys = "; ".join(why for _, why in left.reasons())
            why = f"all {number:,} conversations are skipped ({whys})" if number else "no conversations"
            raise UsageError(f"{o.path} has no prompts: {why}; name a file with turns of a user, or lower min_turns")

    def _turns(self, line: int, item: object, left: _Left) -> list[list[Message]]:
        """What is sent at each turn: the history up to and with a message of the user's that is not followed by another."""
        o, path = self.options, self.options.path
        messages: list[Message] = []
        dropped = Counter[str]()
        for said in validated(path, line, item, Conversation, strict=True).conversations:
            role = ROLES.get(said.sender.lower())
            if role is None:
                problem = f"the role '{shortened(said.sender, 40)}' is unknown"
                raise bad_line(path, line, problem, f"known: {', '.join(ROLES)}")
            text = text_of(said.value, dropped)
            dropped.update({"image": text.count(IMAGE)} if IMAGE in text else ())
            messages.append({"role": role, "content": text.replace(IMAGE, "")})
        roles = [message["role"] for message in messages] + [""]
        ends = [i + 1 for i, role in enumerate(roles) if role == "user" != roles[i + 1]]
        if len(ends) < o.min_turns:
            left.skipped[f"they have fewer than {o.min_turns} turns" if ends else NO_TURN] += 1
            return []
        left.dropped += dropped
        return [messages[:end] for end in ends[: o.max_turns]]
