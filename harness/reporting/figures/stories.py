"""Single requests with their spans, for the timelines: which ones are told, and what happened in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.results.evidence import Arm, Evidence

SHOWN = ("lookup", "fetch", "copy", "wait", "forward")
"""The kinds of span that a timeline shows."""


@dataclass(frozen=True, slots=True)
class Story:
    """The spans of one request, seconds from its first one, and what is said about the request.

    ``spans`` has SPAN_COLUMNS in order of start, and ``lane``: in which of the reads at once a span is.
    """

    arm: Arm
    spans: pd.DataFrame
    prompt: str
    ttft_s: float
    run: int


def median_story(evidence: Evidence, arm: Arm) -> Story | None:
    """The request of the arm whose TTFT is nearest to the median, among those with spans of loads."""
    return next(iter(stories(evidence, arm, [0.5])), None)


def slowest_story(evidence: Evidence, arm: Arm) -> Story | None:
    """The request of the arm with the longest TTFT, among those with spans of loads."""
    return next(iter(stories(evidence, arm, [1.0])), None)


def stories(evidence: Evidence, arm: Arm, shares: Sequence[float]) -> list[Story]:
    """For each of ``shares`` (0 the fastest, 0.5 the median, 1 the slowest) the arm's request nearest to that quantile
    of TTFT, among those with spans of loads; empty where there are none."""
    rows = with_loads(evidence, arm)
    if rows.empty:
        return []
    times = rows["ttft_s"].to_numpy(float)
    return [_story(evidence, arm, rows.iloc[int(np.argmin(np.abs(times - np.quantile(times, share))))]) for share in shares]


def with_loads(evidence: Evidence, arm: Arm) -> pd.DataFrame:
    """The counted rows of an arm that have a span of a fetch, or of a wait: what a peer fetches is not seen."""
    spans, rows = evidence.run.spans, evidence.of(arm)
    fetched = spans.loc[spans["kind"].isin(["fetch", "wait"]) & spans["run"].isin(rows["run"].unique()), ["run", "request"]]
    return rows.merge(fetched.drop_duplicates(), left_on=["run", "prompt"], right_on=["run", "request"])


def _story(evidence: Evidence, arm: Arm, row: "pd.Series[Any]") -> Story:
    prompt, ttft_s, run = str(row["prompt"]), float(row["ttft_s"]), int(row["run"])
    spans = evidence.run.spans
    return Story(arm, _spans_of(spans[(spans["run"] == run).fillna(False)], prompt, ttft_s), prompt, ttft_s, run)


def _spans_of(spans: pd.DataFrame, prompt: str, ttft_s: float) -> pd.DataFrame:
    """A request's own spans among those of its run and, since a wait belongs to a step rather than to a
    request, those without a request that lie within its time."""
    own = (spans["request"] == prompt).fillna(False)
    begin = float(spans.loc[own, "start_s"].min())
    nobody = spans["request"].isna() | (spans["request"] == "").fillna(False)
    within = (spans["start_s"] >= begin) & (spans["end_s"] <= begin + ttft_s)
    mine = spans[(own | (nobody & within)) & spans["kind"].isin(SHOWN)].copy()
    mine[["start_s", "end_s"]] -= begin
    mine = mine.sort_values("start_s", kind="stable")
    return mine.assign(lane=_lanes(mine))


def _lanes(spans: pd.DataFrame) -> list[int]:
    """For each span of all layers a lane in which it overlaps no other of its kind; spans in order of start."""
    ends: dict[str, list[float]] = {}
    lanes = []
    for kind, layer, start, end in zip(spans["kind"], spans["layer"], spans["start_s"], spans["end_s"], strict=True):
        taken = ends.setdefault(kind, []) if layer < 0 else []
        lane = next((lane for lane, until in enumerate(taken) if until <= start), len(taken))
        taken[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes
