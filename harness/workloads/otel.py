"""Spans of language-model calls, as OpenTelemetry writes them: what an application's own tracing has recorded.

The format: OTLP in JSON (opentelemetry.io/docs/specs/otlp, JSON Protobuf Encoding), as the collector's file exporter writes
it, one object per line with ``resourceSpans``, ``scopeSpans`` and ``spans``. Of each span ``startTimeUnixNano`` and the
attributes of the semantic conventions for generative AI are read: ``gen_ai.usage.input_tokens`` and
``gen_ai.usage.output_tokens`` (before: ``prompt_tokens``, ``completion_tokens``, which vLLM's own spans have). Spans without
them are something else; spans of agents and workflows sum up the calls below them and are skipped.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.core.options import Listed
from harness.workloads._array import read_items
from harness.workloads._clock import Clock
from harness.workloads._lengths import LengthTrace, LengthTraceOptions
from harness.workloads._lines import bad_line, validated
from harness.workloads._trace import MOST_TOKENS, TraceRequest
from harness.workloads.base import Limits, WorkloadOptions

INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
CALLS = ("chat", "text_completion", "generate_content")
"""Values of ``gen_ai.operation.name`` that are one call of a model."""

AttributeValue = str | int | float | bool | list[Any] | dict[str, Any] | None


class Attribute(BaseModel):
    """One attribute: ``{"key": ..., "value": {"intValue": "12"}}``; integers are texts in OTLP, and numbers in some files."""

    model_config = ConfigDict(frozen=True)

    key: str
    value: dict[str, AttributeValue] = {}

    @property
    def plain(self) -> AttributeValue:
        """The value without its type."""
        return next(iter(self.value.values()), None)


class Span(BaseModel):
    """One span. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    start_ns: str | int = Field(alias="startTimeUnixNano")
    attributes: Listed[Attribute] = []


class ScopeSpans(BaseModel):
    """Spans of one library."""

    spans: Listed[Span] = []


class ResourceSpans(BaseModel):
    """Spans of one process."""

    scopes: Listed[ScopeSpans] = Field(default=[], alias="scopeSpans")


class Export(BaseModel):
    """One batch of spans."""

    resources: Listed[ResourceSpans] = Field(alias="resourceSpans")


class OtelOptions(LengthTraceOptions):
    """Options of ``otel``."""


class Otel(LengthTrace):
    """OpenTelemetry's spans of language-model calls (OTLP in JSON): times and lengths; nothing about reuse, see ``shared``.

    The file is read as a whole and sorted by the start of the calls, since spans are written when they end.
    """

    name: ClassVar[str] = "otel"
    Options: ClassVar[type[WorkloadOptions]] = OtelOptions
    options: OtelOptions
    source: ClassVar[str] = "A trace of spans"
    counted: ClassVar[str] = "call"

    def _read(self, limits: Limits) -> Iterator[TraceRequest]:
        path = self.options.path
        calls = sorted(self._calls(), key=lambda call: call[0])
        clock = Clock(path, "startTimeUnixNano", 1e-9)
        for number, (start, line, tokens, output) in enumerate(calls, start=1):
            time_s = clock.since_first(line, start, str(start))
            skip = "" if tokens else "they have no input tokens"
            yield TraceRequest(number, time_s, tokens, output, skip=skip, shown=clock.named(str(start)))

    def _calls(self) -> Iterator[tuple[int, int, int, int]]:
        """(nanoseconds, line, input tokens, output tokens or -1) of each call of a model."""
        path = self.options.path
        for line, item in read_items(path):
            for resource in validated(path, line, item, Export).resources:
                for span in (span for scope in resource.scopes for span in scope.spans):
                    found = {attribute.key: attribute.plain for attribute in span.attributes}
                    given = next((found[name] for name in INPUT if name in found), None)
                    if given is None or found.get("gen_ai.operation.name", CALLS[0]) not in CALLS:
                        continue
                    output = next((found[name] for name in OUTPUT if name in found), None)
                    start = self._number(line, "startTimeUnixNano", span.start_ns, 2**64)
                    tokens = self._number(line, INPUT[0], given, MOST_TOKENS)
                    yield start, line, tokens, -1 if output is None else self._number(line, OUTPUT[0], output, MOST_TOKENS)

    def _number(self, line: int, name: str, value: object, most: int) -> int:
        """A whole number from 0 to ``most``, written as such or as a text. Raises UsageError with the line."""
        text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= most:
            return int(text)
        raise bad_line(self.options.path, line, f"{name}={value!r:.40} is no whole number from 0 to {most:,}", "correct the span")
