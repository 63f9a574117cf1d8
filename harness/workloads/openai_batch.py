"""A batch file for OpenAI's Batch API, as ``vllm run-batch`` takes it too.

The format (platform.openai.com/docs/guides/batch; ``BatchRequestInput`` in vLLM 0.32,
vllm/entrypoints/launchers/run_batch.py): one object a line with ``custom_id`` (unique), ``method`` (POST), ``url`` and
``body``, the request as the endpoint takes it. Read are ``/v1/chat/completions`` (``messages``, ``tools``) and
``/v1/completions`` (``prompt``: a text, or token ids). Other endpoints give no first token.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.errors import UsageError
from harness.workloads._fit import FittedOptions, fit_prompts, with_notes
from harness.workloads._lines import bad_line, read_lines
from harness.workloads._text import TOKENIZER, Message, Tokenizer, chat_tokens, checked, load_tokenizer, plain_note
from harness.workloads.base import DataSet, Limits, Prompt, Workload, WorkloadOptions
from harness.workloads.ideal import SeenChunks

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


class TextPart(BaseModel):
    """Part of a message. Pictures and sound are refused: only text can be replayed as tokens."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message; what it has beside role and content goes to the chat template as it is."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | tuple[TextPart, ...] | None = None


Count = Annotated[int, Field(ge=1)] | None


class Body(BaseModel):
    """The request. Sampling parameters are ignored: the harness generates greedily."""

    messages: Annotated[tuple[ChatMessage, ...], Field(min_length=1)] | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    prompt: str | tuple[int, ...] | None = None
    max_tokens: Count = None
    max_completion_tokens: Count = None


class BatchLine(BaseModel):
    """One line; unknown fields are refused, since the API refuses them."""

    model_config = ConfigDict(extra="forbid")

    custom_id: str = Field(min_length=1)
    method: Literal["POST"]
    url: str
    body: Body


class OpenAIBatchOptions(FittedOptions):
    """Options of ``openai_batch``."""

    path: str = Field(description="the file: one request a line")
    tokenizer: str | None = Field(None, description=f"for messages and text prompts: {TOKENIZER}")
    limit: int | None = Field(None, ge=1, description="read at most so many requests")
    output: int = Field(4, ge=1, description="generate at most so many tokens; the request's own maximum where that is less")


class OpenAIBatch(Workload):
    """The requests of an OpenAI batch file (JSONL), in its order.

    The hit is what earlier lines would have left: the longest run of whole chunks seen before. There are no arrival times.
    """

    name: ClassVar[str] = "openai_batch"
    Options: ClassVar[type[WorkloadOptions]] = OpenAIBatchOptions
    options: OpenAIBatchOptions

    def build(self, limits: Limits) -> DataSet:
        """All requests. Raises UsageError with the line's number, SetupError where transformers is needed and missing."""
        o = self.options
        tokenizer = None if o.tokenizer is None else load_tokenizer(o.tokenizer)
        chats: set[int] = set()
        data = fit_prompts(self._prompts(limits, tokenizer, chats), limits, o.over_long, o.path, "shorter prompts")
        return with_notes(data, plain_note(tokenizer) if tokenizer and chats else ())

    def _prompts(self, limits: Limits, tokenizer: Tokenizer | None, chats: set[int]) -> Iterator[Prompt]:
        """``chats`` takes the numbers of the lines that are chats."""
        o, seen = self.options, SeenChunks(limits.chunk_tokens)
        lines: dict[str, int] = {}
        for number, line in read_lines(o.path, BatchLine):
            if line.custom_id in lines:
                problem = f"the custom_id '{line.custom_id}' stands on line {lines[line.custom_id]} too"
                raise bad_line(o.path, number, problem, "rename one")
            lines[line.custom_id] = number
            if line.url == CHAT:
                chats.add(number)
            tokens = self._tokens(number, line, tokenizer, limits)
            most = line.body.max_completion_tokens or line.body.max_tokens or o.output
            yield Prompt(line.custom_id, tokens, seen.visit(tokens), min(most, o.output))
            if len(lines) == o.limit:
                break
        if not lines:
            raise UsageError(f"{o.path} has no requests; write one request a line")

    def _tokens(self, number: int, line: BatchLine, tokenizer: Tokenizer | None, limits: Limits) -> tuple[int, ...]:
        o, body = self.options, line.body
        need = {CHAT: "messages", COMPLETION: "prompt"}.get(line.url)
        if need is None:
            raise bad_line(o.path, number, f"url='{line.url}' will not do", f"known: {CHAT}, {COMPLETION}")
        if getattr(body, need) is None:
            raise bad_line(o.path, number, f"the field 'body.{need}' is missing", f"{line.url} needs it")
        if need == "prompt" and isinstance(body.prompt, tuple):
            return checked(body.prompt, limits.vocabulary, o.path, number, "use the tokenizer of the model that is measured")
        if tokenizer is None:
            raise bad_line(o.path, number, f"has text in body.{need}, and no tokenizer is named", "give tokenizer=FOLDER")
        if need == "prompt":
            tokens = tokenizer.encode(str(body.prompt))
        else:
            messages = [_message(message) for message in body.messages or ()]
            tokens = chat_tokens(tokenizer, messages, body.tools, o.path, number)
        return checked(tokens, limits.vocabulary, o.path, number, f"tokenizer={o.tokenizer} is not the model's")


def _message(message: ChatMessage) -> Message:
    """For the template: parts of text joined by line breaks, as vLLM does it for templates that take no parts."""
    content = message.content
    if isinstance(content, tuple):
        content = "\n".join(part.text for part in content)
    return {**(message.model_extra or {}), "role": message.role, "content": content}
