"""When each request is sent. Pure: a schedule depends on its options and seed alone, so it is the same for every arm.

``arrivals`` is a spec as of workloads: ``closed`` (the next is sent when one has finished), or, in an open loop that
never waits for the server, ``constant:rate=2``, ``poisson:rate=2``, ``gamma:rate=2,burstiness=0.5``,
``ramp:first=1,last=4``, ``trace:speed=2``. Rates are requests per second.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.core.errors import UsageError, known
from harness.core.options import Options, parse_options, split_spec

Times = NDArray[np.float64]
Rate = Field(1.0, gt=0, allow_inf_nan=False, description="requests per second, on average")


class Closed(Options):
    """The next request is sent when one has finished."""


class Constant(Options):
    """Equal gaps."""

    rate: float = Rate

    def gaps(self, count: int) -> Times:
        """``count`` gaps in seconds."""
        return np.full(count, 1 / self.rate)


class Poisson(Options):
    """Independent exponential gaps: many users who know nothing of each other."""

    rate: float = Rate
    seed: int = Field(0, ge=0, description="another seed gives another schedule")

    def gaps(self, count: int) -> Times:
        """``count`` gaps in seconds."""
        return np.random.default_rng(self.seed).exponential(1 / self.rate, count)


class Gamma(Options):
    """Gaps of a gamma distribution with mean 1/rate and shape ``burstiness``, as vLLM's own benchmark has it."""

    rate: float = Rate
    burstiness: float = Field(1.0, gt=0, allow_inf_nan=False, description="1: Poisson; below 1: burstier; above 1: more regular")
    seed: int = Field(0, ge=0, description="another seed gives another schedule")

    def gaps(self, count: int) -> Times:
        """``count`` gaps in seconds."""
        return np.random.default_rng(self.seed).gamma(self.burstiness, 1 / (self.rate * self.burstiness), count)


class Ramp(Options):
    """Equal steps of the rate from the first gap to the last: where does it break?"""

    first: float = Field(1.0, gt=0, allow_inf_nan=False, description="requests per second at the beginning")
    last: float = Field(4.0, gt=0, allow_inf_nan=False, description="requests per second at the end")

    def gaps(self, count: int) -> Times:
        """``count`` gaps in seconds."""
        return 1 / np.linspace(self.first, self.last, max(count, 1))[:count]


class Trace(Options):
    """The times that the workload's trace has."""

    speed: float = Field(1.0, gt=0, allow_inf_nan=False, description="2 replays twice as fast")


Arrivals = Closed | Constant | Poisson | Gamma | Ramp | Trace
KINDS: dict[str, type[Arrivals]] = {
    "closed": Closed,
    "constant": Constant,
    "poisson": Poisson,
    "gamma": Gamma,
    "ramp": Ramp,
    "trace": Trace,
}


def parse_arrivals(spec: str) -> Arrivals:
    """The arrivals that ``spec`` names. Raises UsageError."""
    name, options = split_spec(spec)
    if name not in KINDS:
        raise known("arrivals", name, list(KINDS))
    return parse_options(KINDS[name], options, f"arrivals '{name}'")


def times(arrivals: Arrivals, arrival_s: Sequence[float]) -> list[float] | None:
    """Seconds from the start of a run at which each request is sent, the first at 0; None for a closed loop.

    ``arrival_s`` are the workload's own times, one a request; they count for ``trace`` only.
    Raises UsageError where a trace has none.
    """
    if isinstance(arrivals, Closed):
        return None
    count = len(arrival_s)
    if isinstance(arrivals, Trace):
        own = np.asarray(arrival_s, dtype=np.float64)
        if count > 1 and not np.ptp(own) > 0:
            raise UsageError(
                "the workload has no arrival times, so arrivals=trace cannot be replayed; give a rate, as poisson:rate=2"
            )
        return [float(at) for at in (own - own.min(initial=np.inf)) / arrivals.speed] if count else []
    return [0.0, *(float(at) for at in np.cumsum(arrivals.gaps(max(count - 1, 0))))][:count]
