"""Single requests with their spans, for the timelines: which ones are shown, and what happened in them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.results.evidence import Arm, Evidence

SHOWN = ("lookup", "fetch", "copy", "wait", "forward")
"""The kinds of span that a timeline shows."""


@dataclass(frozen=True, slots=True)
class Story:
    """The spans of one request, in seconds from its first one, and which request it is.

    ``spans`` has SPAN_COLUMNS in order of start, and ``lane``: in which of the reads at once a span is. ``aim_s`` is the
    TTFT that was looked for, the arm's median or longest; ``ttft_s`` differs if the connector kept spans of other requests.
    """

    arm: Arm
    spans: pd.DataFrame
    prompt: str
    ttft_s: float
    run: int
    aim_s: float


def median_stories(evidence: Evidence) -> list[Story]:
    """For each arm that loads: the request whose TTFT is nearest to the arm's median, among those with spans of loads."""
    return _stories(evidence, 0.5)


def slowest_stories(evidence: Evidence) -> list[Story]:
    """The same for the highest TTFT; not for an arm of which so few requests kept spans that it would be the median one again."""
    usual = {(one.run, one.prompt) for one in median_stories(evidence)}
    return [one for one in _stories(evidence, 1.0) if one.ttft_s == one.aim_s or (one.run, one.prompt) not in usual]


def _stories(evidence: Evidence, share: float) -> list[Story]:
    spans = evidence.run.spans
    # Of what a peer fetches, only the waits are seen.
    loads = spans.loc[spans["kind"].isin(["fetch", "wait"]), ["run", "request"]].drop_duplicates()
    found = []
    for arm in evidence.arms:
        rows = evidence.of(arm)
        told = rows.merge(loads, left_on=["run", "prompt"], right_on=["run", "request"])
        if told.empty or arm.bound:
            continue
        aim = float(np.quantile(rows["ttft_s"].to_numpy(float), share))
        row = told.iloc[int(np.argmin(np.abs(told["ttft_s"].to_numpy(float) - aim)))]
        prompt, ttft_s, run = str(row["prompt"]), float(row["ttft_s"]), int(row["run"])
        mine = _spans_of(spans[(spans["run"] == run).fillna(False)], prompt, ttft_s)
        found.append(Story(arm, mine, prompt, ttft_s, run, aim))
    return found


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
