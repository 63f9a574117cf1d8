"""Conversations in ShareGPT's form: every turn sends the whole history again, so later turns hit what earlier ones left.

The format, as vLLM 0.32 reads it (``ShareGPTDataset`` in vllm/benchmarks/datasets/datasets.py) and as FastChat and
axolotl write it: a JSON array of ``{"id": ..., "conversations": [{"from": "human", "value": ...}, {"from": "gpt",
"value": ...}, ...]}``, perhaps with ``{"from": "system", ...}`` in front. vLLM's benchmark sends only the first turn
of each conversation, which has nothing to hit; here each turn is a request. Objects one a line, without the array,
are read as well.
"""

from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.core.errors import UsageError
from harness.workloads._array import read_items
from harness.workloads._fit import FittedOptions, fit_prompts, with_notes
from harness.workloads._lines import bad_line, validated
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
    "bing": "assistant",
    "bard": "assistant",
}
"""``from`` in the published files -> the role in a chat."""

NO_TURN = "they have no message of a user"


class Said(BaseModel):
    """One message. Other fields are ignored. Half a surrogate pair, which JSON can write and no tokenizer takes, is U+FFFD."""

    model_config = ConfigDict(frozen=True)

    sender: str = Field(alias="from")
    value: str

    @field_validator("value")
    @classmethod
    def _whole_pairs(cls, value: str) -> str:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Conversation(BaseModel):
    """One conversation. Other fields are ignored, ``id`` too: published files repeat ids."""

    model_config = ConfigDict(frozen=True)

    conversations: list[Said]


class ShareGPTOptions(FittedOptions):
    """Options of ``sharegpt``."""

    path: str = Field(description="the file: a JSON array of conversations")
    tokenizer: str = Field(description=TOKENIZER)
    limit: int | None = Field(None, ge=1, description="read at most so many prompts (turns)")
    min_turns: int = Field(1, ge=1, description="use only conversations with at least so many turns of the user's")
    max_turns: int | None = Field(None, ge=1, description="send at most so many turns of each conversation, the first ones")
    output: int = Field(4, ge=1, description="tokens to generate for each turn")


class ShareGPT(Workload):
    """ShareGPT's conversations (JSON), one after the other, each turn of the user's a request with the history in front.

    The history has the answers of the file, not what the model said. The hit is what earlier requests of the file
    would have left: the longest run of whole chunks seen before. There are no arrival times.
    """

    name: ClassVar[str] = "sharegpt"
    Options: ClassVar[type[WorkloadOptions]] = ShareGPTOptions
    options: ShareGPTOptions

    def build(self, limits: Limits) -> DataSet:
        """All turns. Raises UsageError with the line where a conversation is bad, SetupError without transformers."""
        o, skipped = self.options, Counter[str]()
        tokenizer = load_tokenizer(o.tokenizer)
        prompts = self._prompts(limits, tokenizer, skipped)
        data = fit_prompts(prompts, limits, o.over_long, o.path, "max_turns=1")
        notes = [f"Left out {count:,} conversations: {why}." for why, count in skipped.items()]
        return with_notes(data, [*notes, *plain_note(tokenizer)])

    def _prompts(self, limits: Limits, tokenizer: Tokenizer, skipped: Counter[str]) -> Iterator[Prompt]:
        o, seen = self.options, SeenChunks(limits.chunk_tokens)
        count = number = 0
        fix = f"tokenizer={o.tokenizer} is not the model's"
        for number, (line, item) in enumerate(read_items(o.path), start=1):
            for turn, history in enumerate(self._turns(line, item, skipped), start=1):
                tokens = chat_tokens(tokenizer, history, None, o.path, line)
                prompt = checked(tokens, limits.vocabulary, o.path, line, fix)
                yield Prompt(f"c{number}t{turn}", prompt, seen.visit(prompt), o.output)
                count += 1
                if count == o.limit:
                    return
        if not count:
            why = f"all {number:,} conversations are left out ({'; '.join(skipped)})" if number else "no conversations"
            raise UsageError(f"{o.path} has no prompts: {why}; name a file with turns of a user, or lower min_turns")

    def _turns(self, line: int, item: object, skipped: Counter[str]) -> list[list[Message]]:
        """What is sent at each turn: the history up to and with a message of the user's that is not followed by another."""
        o, path = self.options, self.options.path
        messages: list[Message] = []
        for said in validated(path, line, item, Conversation, strict=True).conversations:
            if said.sender not in ROLES:
                raise bad_line(path, line, f"from='{said.sender}' will not do", f"known: {', '.join(ROLES)}")
            messages.append({"role": ROLES[said.sender], "content": said.value})
        roles = [message["role"] for message in messages] + [""]
        ends = [i + 1 for i, role in enumerate(roles) if role == "user" != roles[i + 1]]
        if len(ends) < o.min_turns:
            skipped[f"they have fewer than {o.min_turns} turns" if ends else NO_TURN] += 1
            return []
        return [messages[:end] for end in ends[: o.max_turns]]
