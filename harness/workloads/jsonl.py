"""The user's own prompts: a file of one JSON object per line, as token ids or as text."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.core.errors import UsageError
from harness.workloads._fit import FittedOptions, fit_prompts
from harness.workloads._lines import bad_line, read_lines
from harness.workloads._text import TOKENIZER, Tokenizer, checked, load_tokenizer
from harness.workloads.base import DataSet, Limits, Prompt, Workload, WorkloadOptions
from harness.workloads.ideal import SeenChunks


class JsonlOptions(FittedOptions):
    """Options of ``jsonl``."""

    path: str = Field(description="the file: one object per line, with tokens (a list of ids) or text")
    tokenizer: str | None = Field(None, description=f"for text: {TOKENIZER}")
    limit: int | None = Field(None, ge=1, description="read at most this many prompts")
    output: int = Field(4, ge=1, description="tokens to generate if the line does not say output_tokens")


class PromptLine(BaseModel):
    """One line. Exactly one of ``tokens`` and ``text``; unknown fields are refused, since they are mostly misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Annotated[tuple[int, ...], Field(fail_fast=True)] | None = None
    text: str | None = None
    id: str | None = None
    prefix_tokens: int | None = Field(None, ge=0)
    output_tokens: int | None = Field(None, ge=1)
    arrival_s: float | None = Field(None, ge=0, allow_inf_nan=False)


class Jsonl(Workload):
    """The file's prompts in its order.

    A line without ``prefix_tokens`` hits what earlier lines would have left: the longest run of whole chunks
    seen before, earlier lines counted at full length. ``id`` is ``lineN`` where none is given.
    ``arrival_s`` stands on all lines or on none.
    """

    name: ClassVar[str] = "jsonl"
    Options: ClassVar[type[WorkloadOptions]] = JsonlOptions
    options: JsonlOptions

    def build(self, limits: Limits) -> DataSet:
        """The file's prompts. Raises UsageError with the line's number, or SetupError where a tokenizer is
        named and transformers is missing."""
        return fit_prompts(self._prompts(limits), limits, self.options.over_long, self.options.path, "shorter prompts")

    def _prompts(self, limits: Limits) -> Iterator[Prompt]:
        o = self.options
        tokenizer = None if o.tokenizer is None else load_tokenizer(o.tokenizer)
        seen = SeenChunks(limits.chunk_tokens)
        checks = _Checks(o.path)
        count = 0
        for number, line in read_lines(o.path, PromptLine):
            tokens = self._tokens(number, line, tokenizer, limits)
            hit = seen.visit(tokens)
            if line.prefix_tokens is not None:
                hit = line.prefix_tokens
            name = line.id or f"line{number}"
            checks.check(number, name, hit, len(tokens), line.arrival_s)
            yield Prompt(name, tokens, hit, line.output_tokens or o.output, line.arrival_s or 0.0)
            count += 1
            if count == o.limit:
                break
        if not count:
            raise UsageError(f"{o.path} has no prompts; write one JSON object with tokens or text a line")

    def _tokens(self, number: int, line: PromptLine, tokenizer: Tokenizer | None, limits: Limits) -> tuple[int, ...]:
        path = self.options.path
        if (line.tokens is None) == (line.text is None):
            raise bad_line(path, number, "needs exactly one of tokens and text", "give one of them")
        if line.tokens is not None:
            return checked(line.tokens, limits.vocabulary, path, number, "use the tokenizer of the model that is measured")
        if tokenizer is None:
            raise bad_line(path, number, "has text, and no tokenizer is named", "give tokenizer=FOLDER or token ids")
        fix = f"tokenizer={self.options.tokenizer} is not the model's"
        return checked(tokenizer.encode(line.text or ""), limits.vocabulary, path, number, fix)


class _Checks:
    """What only shows across lines: ids that repeat, arrivals that go back or are missing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: dict[str, int] = {}
        self._clock: float | None = None

    def check(self, number: int, name: str, hit: int, length: int, arrival_s: float | None) -> None:
        """Raises UsageError where line ``number`` contradicts itself or an earlier line."""
        if hit > length:
            raise bad_line(self._path, number, f"prefix_tokens={hit} is more than the {length} tokens", "lower it")
        if name in self._lines:
            raise bad_line(self._path, number, f"the id '{name}' is on line {self._lines[name]} too", "rename one")
        if self._lines and (arrival_s is None) != (self._clock is None):
            raise bad_line(self._path, number, "some lines have arrival_s and some not", "give it on all or on none")
        if arrival_s is not None and arrival_s < (self._clock or 0.0):
            problem = f"arrival_s={arrival_s:g} lies before the {self._clock:g} of an earlier line"
            raise bad_line(self._path, number, problem, "sort the file by arrival_s")
        self._lines[name] = number
        self._clock = arrival_s
