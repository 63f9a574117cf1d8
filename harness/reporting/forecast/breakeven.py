"""Which engine wins by the recurrence, over two numbers of a measurement, and where the measurement itself lies.

    a    chunkwise's load time over the compute that could hide it
    b    layerwise's load time over chunkwise's, for the same bytes

By the closed form layerwise has the lower TTFT while b < 1 + 1/a (measurement.md); the recurrence of
harness.core.recurrence says the same for a number of layers and a depth.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from harness.core.errors import UsageError
from harness.core.recurrence import Link, Step, groups_of, predict_layerwise, sizes_of
from harness.reporting.forecast.prediction import groups_in, option
from harness.results.evidence import Arm, Evidence

HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Point:
    """A layerwise arm beside a chunkwise one: medians over the prompts that both loaded.

    ``ratio`` is the measured TTFT of layerwise over chunkwise; ``floored`` whether the compute is the floor arm's
    (else chunkwise's own); ``spans`` whether load times are from spans (else ``load_s``, which holds pauses as well).
    """

    layerwise: Arm
    chunkwise: Arm
    a: float
    b: float
    ratio: float
    prompts: int
    floored: bool
    spans: bool


def points(evidence: Evidence) -> list[Point]:
    """Every layerwise arm beside every chunkwise one; empty if no prompt was loaded by both."""
    tables = {arm: _by_prompt(evidence, arm) for arm in evidence.arms if arm.engine in ("chunkwise", "layerwise", "floor")}
    floor = next((table["compute_s"] for arm, table in tables.items() if arm.engine == "floor" and len(table)), None)
    found = []
    for layerwise in (arm for arm in tables if arm.engine == "layerwise"):
        for chunkwise in (arm for arm in tables if arm.engine == "chunkwise"):
            both = tables[layerwise].merge(tables[chunkwise], left_index=True, right_index=True, suffixes=("_l", "_c"))
            compute = both["compute_s_c"] if floor is None else floor.reindex(both.index)
            both = both.assign(compute=compute)
            both = both.loc[(both[["load_l", "load_c", "compute"]] > 0).all(axis=1)]
            if len(both):
                a, b = both["load_c"] / both["compute"], both["load_l"] / both["load_c"]
                ratio = both["ttft_s_l"] / both["ttft_s_c"]
                spans = bool(both["spans_l"].all() and both["spans_c"].all())
                middle = [float(column.median()) for column in (a, b, ratio)]
                found.append(Point(layerwise, chunkwise, middle[0], middle[1], middle[2], len(both), floor is not None, spans))
    return found


def closed_form(a: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """The b below which layerwise wins, in the limit of many layers and of depth: 1 + 1/a."""
    return np.asarray(1 + 1 / a)


@lru_cache(maxsize=1024)  # the static map and the interactive one ask for the same
def recurrence(a: float, layers: int, depth: int, groups: str = "1") -> float:
    """The b below which layerwise wins by the recurrence, for ``layers`` equal layers on one stream."""

    def layerwise_ttft(b: float) -> float:
        link = Link(0.0, layers / (a * b))  # so that all layers together, one byte each, take a * b
        return predict_layerwise(link, Step(1, layers, 1, 1.0), 1, depth, groups_of(groups, layers))

    low, high = 0.0, 1 + 1 / a  # at the upper end the loads alone take as long as chunkwise's load and compute
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if layerwise_ttft(middle) < 1 + a else (low, middle)
    return low


def depths(evidence: Evidence, most: int = 3) -> list[tuple[int, str]]:
    """Depth and groups of the measurement's layerwise arms, each once, the first ``most``; without those that choose groups."""
    found: dict[tuple[int, str], None] = {}
    for arm in evidence.arms:
        if arm.engine == "layerwise" and len(evidence.of(arm)):
            try:
                sizes_of(groups_in(arm))
                found[max(option(arm, "depth"), 1), groups_in(arm)] = None
            except (TypeError, ValueError, OverflowError, UsageError):  # an option that is no number, or auto
                continue
    return list(found)[:most]


def busy(spans: pd.DataFrame) -> "pd.Series[float]":
    """For each (run, request): seconds in which at least one fetch was under way."""
    fetches = spans.loc[(spans["kind"] == "fetch").fillna(False), ["run", "request", "start_s", "end_s"]].dropna()
    fetches = fetches.sort_values("start_s", kind="stable")
    keys = [fetches["run"], fetches["request"]]
    until = fetches.groupby(keys)["end_s"].cummax()
    before = until.groupby(keys).shift()
    begin = np.fmax(fetches["start_s"].to_numpy(float), before.to_numpy(float))
    lengths = pd.Series(np.maximum(fetches["end_s"].to_numpy(float) - begin, 0.0), index=fetches.index)
    return lengths.groupby(keys).sum()


def _by_prompt(evidence: Evidence, arm: Arm) -> pd.DataFrame:
    """Medians over the rounds, by prompt: ttft_s, compute_s, load; and whether the loads are from spans."""
    rows = evidence.of(arm)[["run", "prompt", "ttft_s", "compute_s", "load_s"]]
    if rows.empty:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("ttft_s", "compute_s", "load", "spans")})
    spans = evidence.run.spans
    found = busy(spans[spans["run"].isin(rows["run"].unique())]).rename("busy").rename_axis(["run", "prompt"])
    rows = rows.merge(found, how="left", left_on=["run", "prompt"], right_index=True)
    seen = bool(rows.loc[rows["load_s"].notna(), "busy"].notna().all()) and bool(rows["busy"].notna().any())
    rows = rows.assign(load=rows["busy"] if seen else rows["load_s"])
    return rows.groupby("prompt")[["ttft_s", "compute_s", "load"]].median().assign(spans=seen)
