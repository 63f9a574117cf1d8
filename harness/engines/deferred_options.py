"""The settings of the deferred engine."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from harness.engines.base import EngineOptions
from harness.engines.fetch import DeadlineMs
from harness.engines.groups import AUTO, check_groups

Release = Annotated[int, Field(ge=1, le=4096)] | Literal["all"]


class DeferredOptions(EngineOptions):
    """Settings of the deferred engine."""

    release: Release = Field(
        "all",
        description="layers that are in place before the request joins a step; in it the forward waits for the others layer by "
        "layer. 'all' = it waits for nothing",
    )
    order: Literal["fifo", "shortest", "deadline"] = Field(
        "fifo",
        description="whose chunks the readers fetch next: 'fifo' = of the load that began first; 'shortest' = of that with the "
        "fewest bytes left, so a long one may wait until its deadline; 'deadline' = of that whose deadline_ms ends first, which "
        "is fifo unless requests set their own. Loads of requests that are released come before all others",
    )
    groups: Annotated[str, AfterValidator(check_groups)] = Field(
        "",
        description="layers of a chunk that one read fetches: a number, or sizes such as 4+10+10; empty: as many as release",
    )
    readers: int = Field(8, ge=1, le=1024, description="store calls under way at once, for all requests together")
    loops: int = Field(0, ge=0, le=64, description="0 = readers are threads with blocking reads; N = N event loops share them")
    batch: int = Field(1, ge=1, le=4096, description="chunks a store call")
    reuse: bool = Field(
        False,
        description="copy chunks that another load reads, or has in its blocks until its request's first step is over, instead "
        "of reading them again; needs loops=0 and batch=1. On a GPU every load reads its own",
    )
    staged: bool = Field(False, description="read into staging memory and copy, even where blocks could be read into directly")
    verify: bool = Field(False, description="check the checksum of every layer, not only the header")
    deadline_ms: DeadlineMs = 30_000

    @model_validator(mode="after")
    def _makes_sense(self) -> "DeferredOptions":
        if self.groups == AUTO:
            raise ValueError("groups=auto is for loads within a step; give deferred sizes such as 4+10+10, or leave it out")
        if self.reuse and (self.loops or self.batch > 1):
            raise ValueError(f"reuse=true works chunk by chunk in threads, not with loops={self.loops} and batch={self.batch}")
        if self.loops > self.readers:
            raise ValueError(f"loops={self.loops} is more than readers={self.readers}; give each loop at least one reader")
        return self
