"""BurstGPT: five million requests to ChatGPT and GPT-4 in four months.

The format (github.com/HPMLL/BurstGPT, README, Schema): CSV with ``Timestamp`` (seconds from 0:00:00 on the first
day of the first release, so that a later release begins at millions), ``Model`` (ChatGPT or GPT-4), ``Request tokens``,
``Response tokens`` (0 where the request failed), ``Total tokens`` and ``Log Type`` (``Conversation log`` or
``API log``). Later releases add ``Session ID`` and ``Elapsed time``, which are ignored: a session says nothing about
how much of an earlier prompt comes again.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.workloads._clock import LATEST, Clock, ClockUnit, plain
from harness.workloads._lengths import LengthTrace, LengthTraceOptions
from harness.workloads._lines import bad_line
from harness.workloads._rows import read_rows
from harness.workloads._trace import MOST_TOKENS, TraceRequest
from harness.workloads.base import Limits, WorkloadOptions

FAILED = "they failed in the trace (0 response tokens)"


class BurstRow(BaseModel):
    """One request."""

    model_config = ConfigDict(frozen=True)

    time_s: float = Field(alias="Timestamp", ge=0, le=LATEST, allow_inf_nan=False)
    model: str = Field(alias="Model")
    request: int = Field(alias="Request tokens", ge=0, le=MOST_TOKENS)
    response: int = Field(alias="Response tokens", ge=0, le=MOST_TOKENS)
    total: int = Field(alias="Total tokens", ge=0, le=2 * MOST_TOKENS)
    log: str = Field(alias="Log Type")


class BurstGPTOptions(LengthTraceOptions):
    """Options of ``burstgpt``."""

    model: str | None = Field(None, description="measure only requests to this model, e.g. GPT-4")
    log: str | None = Field(None, description="measure only this log type, e.g. 'API log'")
    failed: Literal["skip", "keep"] = Field("skip", description="requests that failed in the trace: skip excludes them")


class BurstGPT(LengthTrace):
    """BurstGPT's trace (CSV): times and lengths; nothing about reuse, see ``shared``."""

    name: ClassVar[str] = "burstgpt"
    Options: ClassVar[type[WorkloadOptions]] = BurstGPTOptions
    options: BurstGPTOptions
    source: ClassVar[str] = "BurstGPT's trace"

    @property
    def clock_unit(self) -> ClockUnit:
        """As published."""
        return ClockUnit("Timestamp", "seconds", "write the column in seconds")

    def _read(self, limits: Limits) -> Iterator[TraceRequest]:
        path = self.options.path
        clock = Clock(path, "Timestamp")
        for number, row in read_rows(path, BurstRow):
            shown = plain(row.time_s)
            time_s = clock.since_first(number, row.time_s, shown)
            if row.total != row.request + row.response:
                problem = f"Total tokens={row.total} is not Request tokens={row.request} plus Response tokens={row.response}"
                raise bad_line(path, number, problem, "correct the line")
            skip = self._skip(row)
            yield TraceRequest(number, time_s, row.request, row.response, skip=skip, shown=clock.named(shown))

    def _skip(self, row: BurstRow) -> str:
        o = self.options
        if o.model is not None and row.model != o.model:
            return f"they went to another model than {o.model}"
        if o.log is not None and row.log != o.log:
            return f"their log type is not '{o.log}'"
        if not row.request:
            return "they have no request tokens"
        return FAILED if not row.response and o.failed == "skip" else ""
