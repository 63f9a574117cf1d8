"""A batch file for OpenAI's Batch API, as ``vllm run-batch`` takes it too.

The format (platform.openai.com/docs/guides/batch; ``BatchRequestInput`` in vLLM 0.32,
vllm/entrypoints/launchers/run_batch.py): one object per line with ``custom_id`` (unique), ``method`` (POST), ``url`` and
``body``, the request as the endpoint takes it. Read are ``/v1/chat/completions`` (``messages``, ``tools``),
``/v1/completions`` (``prompt``: a text, or token ids) and ``/v1/responses`` (``input``: a text, or messages;
``instructions``), also under other paths, as Azure's ``/chat/completions``. Requests to endpoints that give no first
token, such as ``/v1/embeddings``, are skipped and counted.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.errors import UsageError
from harness.core.options import Listed
from harness.workloads._chat import ChatMessage, dropped_note, text_of
from harness.workloads._fit import FittedOptions, fit_prompts, with_notes
from harness.workloads._lines import bad_line, read_lines, shortened, validated
from harness.workloads._text import TOKENIZER, Tokenizer, chat_tokens, checked, load_tokenizer, plain_note
from harness.workloads.base import DataSet, Limits, Prompt, Workload, WorkloadOptions
from harness.workloads.ideal import SeenChunks


class Endpoint(Enum):
    """The end of an endpoint's path."""

    CHAT = "chat/completions"
    COMPLETION = "completions"
    RESPONSES = "responses"


FIELDS = {Endpoint.CHAT: "messages", Endpoint.COMPLETION: "prompt", Endpoint.RESPONSES: "input"}
"""What the body of a request has to hold."""

Count = Annotated[int, Field(ge=1)] | None

NO_TOKENS = ("embeddings", "moderations", "rerank", "score", "classify", "pooling", "images", "audio", "videos")
"""What an endpoint's path holds whose answer has no first token."""


class Body(BaseModel):
    """The request. Sampling parameters are ignored: the harness generates greedily."""

    messages: Annotated[Listed[ChatMessage], Field(min_length=1)] | None = None
    tools: Listed[dict[str, Any]] | None = None
    prompt: str | Listed[int] | None = None
    input: Any = None
    instructions: str | None = None
    max_tokens: Count = None
    max_completion_tokens: Count = None
    max_output_tokens: Count = None


class BatchLine(BaseModel):
    """One line; unknown fields are refused, since the API refuses them."""

    model_config = ConfigDict(extra="forbid")

    custom_id: str = Field(min_length=1)
    method: Literal["POST"]
    url: str
    body: Body


class OpenAIBatchOptions(FittedOptions):
    """Options of ``openai_batch``."""

    path: str = Field(description="the file: one request per line")
    tokenizer: str | None = Field(None, description=f"for messages and text prompts: {TOKENIZER}")
    limit: int | None = Field(None, ge=1, description="read at most this many requests")
    output: int = Field(4, ge=1, description="generate at most this many tokens; the request's own maximum if that is less")


@dataclass(slots=True)
class _Left:
    """What one walk skipped: requests by the path of their endpoint, parts that are no text. ``chats``: whether it met any."""

    urls: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    chats: bool = False


class OpenAIBatch(Workload):
    """The requests of an OpenAI batch file (JSONL), in its order.

    The hit is what earlier lines would have left: the longest run of whole chunks seen before. There are no arrival times.
    """

    name: ClassVar[str] = "openai_batch"
    Options: ClassVar[type[WorkloadOptions]] = OpenAIBatchOptions
    options: OpenAIBatchOptions

    def build(self, limits: Limits) -> DataSet:
        """All requests. Raises UsageError with the line's number, SetupError where transformers is needed and missing."""
        o, left = self.options, _Left()
        tokenizer = None if o.tokenizer is None else load_tokenizer(o.tokenizer)
        data = fit_prompts(self._prompts(limits, tokenizer, left), limits, o.over_long, o.path, "shorter prompts")
        notes = [f"Skipped {count:,} requests: {url} gives no first token." for url, count in left.urls.items()]
        return with_notes(
            data, [*notes, *dropped_note(left.dropped), *(plain_note(tokenizer) if tokenizer and left.chats else ())]
        )

    def _prompts(self, limits: Limits, tokenizer: Tokenizer | None, left: _Left) -> Iterator[Prompt]:
        o, seen = self.options, SeenChunks(limits.chunk_tokens)
        lines: dict[str, int] = {}
        count = 0
        for number, line in read_lines(o.path, BatchLine):
            if line.custom_id in lines:
                name = shortened(line.custom_id, 60)
                raise bad_line(o.path, number, f"the custom_id '{name}' is on line {lines[line.custom_id]} too", "rename one")
            lines[line.custom_id] = number
            endpoint = self._endpoint(number, line.url)
            if endpoint is None:
                left.urls[shortened(line.url, 60)] += 1
                continue
            tokens = self._tokens(number, line.body, endpoint, tokenizer, limits, left)
            most = line.body.max_completion_tokens or line.body.max_tokens or line.body.max_output_tokens or o.output
            yield Prompt(line.custom_id, tokens, seen.visit(tokens), min(most, o.output))
            count += 1
            if count == o.limit:
                break
        if not count:
            why = f": those of {', '.join(left.urls)} give no first token" if left.urls else ""
            raise UsageError(f"{o.path} has no requests to send{why}; write chats or completions, one per line")

    def _endpoint(self, number: int, url: str) -> Endpoint | None:
        """By the end of the path, whatever stands in front (Azure's paths have no version). None: gives no first token."""
        path = url.partition("?")[0].rstrip("/")
        for endpoint in Endpoint:
            if f"/{path}".endswith(f"/{endpoint.value}"):
                return endpoint
        if any(f"/{word}" in f"/{path}" for word in NO_TOKENS):
            return None
        known = ", ".join(f"/v1/{endpoint.value}" for endpoint in Endpoint)
        raise bad_line(self.options.path, number, f"url='{shortened(url, 60)}' is unknown", f"known: {known}")

    def _tokens(
        self, number: int, body: Body, endpoint: Endpoint, tokenizer: Tokenizer | None, limits: Limits, left: _Left
    ) -> tuple[int, ...]:
        o, need = self.options, FIELDS[endpoint]
        if getattr(body, need) is None:
            raise bad_line(o.path, number, f"the field 'body.{need}' is missing", f"{endpoint.value} needs it")
        if need == "prompt" and isinstance(body.prompt, list):
            return checked(body.prompt, limits.vocabulary, o.path, number, "use the tokenizer of the model that is measured")
        if tokenizer is None:
            raise bad_line(o.path, number, f"has text in body.{need}, and no tokenizer is named", "give tokenizer=FOLDER")
        if need == "prompt":
            tokens = tokenizer.encode(text_of(str(body.prompt), left.dropped))
        else:
            left.chats = True
            messages = [message.message(left.dropped) for message in self._messages(number, body, endpoint)]
            tokens = chat_tokens(tokenizer, messages, body.tools, o.path, number)
        return checked(tokens, limits.vocabulary, o.path, number, f"tokenizer={o.tokenizer} is not the model's")

    def _messages(self, number: int, body: Body, endpoint: Endpoint) -> list[ChatMessage]:
        if endpoint is Endpoint.CHAT:
            return body.messages or []
        given = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
        asked = validated(self.options.path, number, {"messages": given}, Body).messages or []
        return [ChatMessage(role="system", content=body.instructions), *asked] if body.instructions else asked
