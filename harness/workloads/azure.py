"""Azure's LLM inference traces of 2023 (Splitwise) and 2024 (DynamoLLM).

The format (github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and ...2024.md): CSV with the header
``TIMESTAMP,ContextTokens,GeneratedTokens``. Times of 2023 have seven digits behind the point and no zone
(``2023-11-16 18:15:46.6805900``), those of 2024 six digits, or none, and a zone (``2024-05-10 00:00:00.009930+00:00``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.workloads._clock import Clock
from harness.workloads._lengths import LengthTrace, LengthTraceOptions
from harness.workloads._rows import read_rows
from harness.workloads._trace import MOST_TOKENS, TraceRequest
from harness.workloads.base import Limits, WorkloadOptions


class AzureRow(BaseModel):
    """One request. Python keeps six of the seven digits: a tenth of a microsecond is lost."""

    model_config = ConfigDict(frozen=True)

    time: datetime = Field(alias="TIMESTAMP")
    context: int = Field(alias="ContextTokens", ge=0, le=MOST_TOKENS)
    generated: int = Field(alias="GeneratedTokens", ge=0, le=MOST_TOKENS)

    @field_validator("time", mode="before")
    @classmethod
    def _iso(cls, text: str) -> datetime:
        # Not pydantic's own reading, which takes plain numbers for seconds since 1970.
        time = datetime.fromisoformat(text.strip())
        return time if time.tzinfo else time.replace(tzinfo=UTC)


class AzureOptions(LengthTraceOptions):
    """Options of ``azure``."""


class Azure(LengthTrace):
    """Azure's LLM inference trace (CSV of 2023 or 2024): times and lengths; nothing about reuse, see ``shared``."""

    name: ClassVar[str] = "azure"
    Options: ClassVar[type[WorkloadOptions]] = AzureOptions
    options: AzureOptions
    source: ClassVar[str] = "Azure's trace"

    def _read(self, limits: Limits) -> Iterator[TraceRequest]:
        clock = Clock(self.options.path, "TIMESTAMP")
        first: datetime | None = None
        for number, row in read_rows(self.options.path, AzureRow):
            first = first or row.time
            shown = f"{row.time:%Y-%m-%d %H:%M:%S.%f}"
            time_s = clock.since_first(number, (row.time - first).total_seconds(), shown)
            skip = "" if row.context else "they have no context tokens"
            yield TraceRequest(number, time_s, row.context, row.generated, skip=skip, shown=clock.named(shown))
