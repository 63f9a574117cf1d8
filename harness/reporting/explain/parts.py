"""Where an arm's TTFT goes, by cause, as values: means per request over the requests that count.

queue, lookup, stall and compute are columns of requests.csv. Two of them are divided further:

The stall (what the forward waited for loads, and a request for its load between steps) is divided as the time of the store calls
is: operations times the round trip of a call, bytes over the bandwidth of a stream, and copies out of staging memory. Round trip
and bandwidth are those of a shaped store's URL, else a line through the fetch spans of two object sizes; with one size alone the
stall stays whole.

The compute is divided into the floor arm's for the same prompts, which no engine lowers, and what is above it: the forward that
runs beside the readers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pandas as pd

from harness.core.errors import ResultsError
from harness.core.recurrence import Link
from harness.reporting.forecast.prediction import DEFAULTS, link_of
from harness.reporting.waited import waited_s
from harness.results.evidence import Arm, Evidence

SMALL = 0.1
"""If all that is not the model's own compute is a smaller share of TTFT than this, the compute is the bottleneck."""

APART = 4.0
"""The larger of two object sizes over the smaller, so that a line through them tells round trip from bandwidth."""


class Cause(StrEnum):
    """What a part of TTFT is spent on."""

    QUEUE = "queue"
    LOOKUP = "lookup"
    ROUND_TRIPS = "round trips"
    BANDWIDTH = "bandwidth"
    COPIES = "copies"
    LOADS = "loads"  # a stall that can't be divided
    SLOWED = "forward beside readers"
    COMPUTE = "compute"
    OTHER = "other"


STALLS = (Cause.ROUND_TRIPS, Cause.BANDWIDTH, Cause.COPIES, Cause.LOADS)
"""What the forward waits for while it stands still."""


@dataclass(frozen=True, slots=True)
class Loads:
    """Means per request of what an arm asked of its store, and what a call costs there as far as it is known.

    ``estimated``: from the fetches of the measurement, not from the store's URL. ``copy_s``: of all copies together.
    """

    operations: float
    bytes: float
    copy_s: float = 0.0
    link: Link | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """One arm: mean TTFT and its parts in seconds, which add up to it. ``hit_share``: hit tokens over prompt tokens.

    ``floor``: whether a floor arm tells the model's own compute; without one, compute includes what readers take from it.
    """

    arm: Arm
    ttft_s: float
    seconds: Mapping[Cause, float] = field(hash=False)
    loads: Loads | None
    floor: bool
    hit_share: float | None

    @property
    def bottleneck(self) -> Cause:
        """The largest part that is not the model's own compute, unless all of these together are small.

        The stall counts as a whole; where it is the largest, its own largest part is named.
        """
        rest: dict[Cause, float] = {cause: value for cause, value in self.seconds.items() if cause != Cause.COMPUTE}
        if sum(rest.values()) < SMALL * self.ttft_s:
            return Cause.COMPUTE
        stall = sum(rest[cause] for cause in STALLS)
        best = max(rest, key=lambda cause: stall if cause in STALLS else rest[cause])
        return max(STALLS, key=lambda cause: rest[cause]) if best in STALLS else best

    def share(self, cause: Cause) -> float:
        """Of the mean TTFT."""
        return self.seconds[cause] / self.ttft_s


def parts_of(evidence: Evidence) -> list[Parts]:
    """The arms that are no bounds and have requests with parts. Raises ResultsError if there are none."""
    link, estimated = _link(evidence)
    found = []
    for arm in evidence.arms:
        rows = evidence.of(arm)
        rows = rows[rows["compute_s"].notna() & (rows["ttft_s"] > 0)]
        if not arm.bound and len(rows):
            found.append(_parts(evidence, arm, rows, link, estimated))
    if not found:
        raise ResultsError(
            f"{evidence.run.path} has no request that counts and says where its time went; "
            "measure with ttft compare, for a server with --target and its span log"
        )
    return found


def _parts(evidence: Evidence, arm: Arm, rows: pd.DataFrame, link: Link | None, estimated: bool) -> Parts:
    means = rows[["queue_s", "lookup_s", "stall_s", "compute_s"]].astype("float64").fillna(0.0).mean()
    queue, lookup, stall, compute = (max(float(value), 0.0) for value in means)
    ttft = float(rows["ttft_s"].mean())
    waited = waited_s(evidence, arm, rows)
    slowed = _slowed(evidence, rows)
    loads = _loads(evidence, arm, rows, link, estimated)
    seconds = {
        Cause.QUEUE: max(queue - waited, 0.0),
        Cause.LOOKUP: lookup,
        **_divided(stall + waited, loads, _streams(arm)),
        Cause.SLOWED: min(slowed or 0.0, compute),
        Cause.COMPUTE: compute - min(slowed or 0.0, compute),
        Cause.OTHER: max(ttft - queue - lookup - stall - compute, 0.0),
    }
    prompt_tokens, hits = float(rows["prompt_tokens"].sum()), rows["hit_tokens"]
    hit_share = float(hits.sum()) / prompt_tokens if hits.notna().any() and prompt_tokens else None
    return Parts(arm, ttft, seconds, loads, slowed is not None, hit_share)


def _slowed(evidence: Evidence, rows: pd.DataFrame) -> float | None:
    """Seconds of compute above the floor arm's for the same prompts and hits, at least 0; None without such."""
    floor = next((arm for arm in evidence.arms if arm.engine == "floor"), None)
    if floor is None:
        return None
    keys = ["prompt", "hit_tokens"]
    ours = rows.dropna(subset=keys).groupby(keys)["compute_s"].median()
    theirs = evidence.of(floor).dropna(subset=[*keys, "compute_s"]).groupby(keys)["compute_s"].median()
    apart = (ours - theirs).dropna()
    return max(float(apart.mean()), 0.0) if len(apart) else None


def _loads(evidence: Evidence, arm: Arm, rows: pd.DataFrame, link: Link | None, estimated: bool) -> Loads | None:
    operations, size = (float(rows[name].astype("float64").fillna(0.0).mean()) for name in ("operations", "bytes"))
    if not operations:
        return None
    spans = evidence.run.spans
    spans = spans[spans["run"].isin(rows["run"].unique())]
    requests = len(spans[["run", "request"]].drop_duplicates())
    copies = spans[spans["kind"] == "copy"]
    copied = float((copies["end_s"] - copies["start_s"]).sum()) / requests if requests else 0.0
    return Loads(operations, size, copied, link, estimated)


def _divided(stall: float, loads: Loads | None, streams: int) -> dict[Cause, float]:
    """The stall by the time that the store calls of a request take, all streams together."""
    parts = dict.fromkeys(STALLS, 0.0)
    if loads is None or loads.link is None:
        return parts | {Cause.LOADS: stall}
    link = loads.link
    rate = min(link.stream_bytes_per_s, (link.total_bytes_per_s or float("inf")) / streams)
    weights = {
        Cause.ROUND_TRIPS: loads.operations * link.latency_s,
        Cause.BANDWIDTH: loads.bytes / rate,
        Cause.COPIES: loads.copy_s,
    }
    total = sum(weights.values())
    return parts | ({cause: stall * weight / total for cause, weight in weights.items()} if total else {Cause.LOADS: stall})


def _streams(arm: Arm) -> int:
    """Store calls that the arm has under way at once, at least 1."""
    name = "pool" if arm.engine == "chunkwise" else "readers"
    try:
        return max(int(arm.options.get(name, DEFAULTS[name])), 1)
    except (TypeError, ValueError, OverflowError):  # pool=default
        return DEFAULTS["readers"]


def _link(evidence: Evidence) -> tuple[Link | None, bool]:
    """Round trip and bandwidth of a call, and whether they are estimated."""
    try:
        return link_of(evidence), False
    except ResultsError:
        return _fitted(evidence.run.spans), True


def _fitted(spans: pd.DataFrame) -> Link | None:
    """A line through the times of the smallest and the largest fetches; None with one size alone.

    Of each size the lower quartile: calls that wait for one another take longer than a call by itself.
    """
    fetches = spans[(spans["kind"] == "fetch") & (spans["bytes"] > 0)]
    times = (fetches["end_s"] - fetches["start_s"]).groupby(fetches["bytes"].astype("int64")).quantile(0.25)
    if len(times) < 2 or times.index.max() < APART * times.index.min():
        return None
    small, large = int(times.index.min()), int(times.index.max())
    quick, slow = float(times[small]), float(times[large])
    rate = (large - small) / (slow - quick) if slow > quick else float("inf")
    return Link(max(quick - small / rate, 0.0), rate)
