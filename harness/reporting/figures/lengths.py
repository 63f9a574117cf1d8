"""TTFT over the length of the prefix that the store holds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.reporting.figures import thin
from harness.reporting.figures.picture import Picture, figure
from harness.reporting.figures.style import (
    candidates,
    dots,
    gridded,
    looks,
    path,
    plain_number,
    scale_axis,
    three_digits,
    unit_of,
)
from harness.results.evidence import Arm, Evidence
from harness.stats import interval
from harness.stats.quantiles import metric_of

GROUPS = 8
"""If there are more distinct lengths, neighbouring ones are put into this many groups of equally many prompts."""

LEAST_RUNS = 3
"""With fewer runs an interval is so wide that it would only stretch the picture."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One arm. ``groups``: ``tokens``, ``ttft_s``, ``low_s``, ``high_s``, ``runs``, ``requests`` of each group of lengths
    (a bound that the runs leave open is NaN); ``prompts``: ``tokens`` and median ``ttft_s`` of each prompt."""

    groups: pd.DataFrame
    prompts: pd.DataFrame


def prefix_of(evidence: Evidence) -> "pd.Series[float]":
    """Tokens of each prompt's stored prefix, by prompt: what the workload implies for the arms that may hit."""
    rows = evidence.rows
    return rows.groupby("prompt")["expected_hit_tokens"].max().dropna().astype(float)


def curves(evidence: Evidence) -> dict[Arm, Curve]:
    """Each arm's curve; empty if all prompts have a prefix of one length. The centre of a group is the
    Hodges-Lehmann centre of the runs' medians, since the run is the unit."""
    prefix = prefix_of(evidence)
    if prefix.nunique() < 2:
        return {}
    groups = _groups(prefix)
    found = {}
    for arm in evidence.arms:
        rows = evidence.of(arm)
        rows = rows[rows["prompt"].isin(prefix.index)]
        if rows.empty:
            continue
        rows = pd.DataFrame(
            {
                "run": rows["run"],
                "prompt": rows["prompt"],
                "ttft_s": rows["ttft_s"].astype(float),
                "tokens": rows["prompt"].map(prefix).astype(float),
                "group": rows["prompt"].map(groups),
            }
        )
        found[arm] = Curve(pd.DataFrame([_centre(group) for _, group in rows.groupby("group")]), _prompts(rows))
    return found


def draw(evidence: Evidence) -> Picture | None:
    """One curve per arm with 95% intervals, and faint points for single prompts. None if there is only one length."""
    found = curves(evidence)
    if not found:
        return None
    times = np.concatenate([curve.prompts["ttft_s"].to_numpy(float) for curve in found.values()])
    shown = {arm: curve.prompts.iloc[_some(curve.prompts, thin.MOST // len(found))] for arm, curve in found.items()}
    unit, look = unit_of(times), looks(evidence.arms)
    note = "Lines: median TTFT of a group of prefixes, with 95% intervals over the runs. Faint points: single prompts."
    left_out = thin.note(sum(map(len, shown.values())), len(times), "prompts")
    picture = figure(evidence, "TTFT over the length of the stored prefix", 8, 4.4, note, left_out)
    axes = picture.subplots()
    for arm, curve in found.items():
        style, groups = look[arm.name], curve.groups
        picture.mark(dots(axes, shown[arm]["tokens"], shown[arm]["ttft_s"] * unit.scale, style, 2.8, 0.25), arm)
        tokens = groups["tokens"].to_numpy(float)
        middle, low, high = (groups[name].to_numpy(float) * unit.scale for name in ("ttft_s", "low_s", "high_s"))
        picture.mark(axes.vlines(tokens, low, high, color=style.colour, linewidth=1), arm)
        line = path(axes, tokens, middle, style)
        told = zip(tokens, middle, low, high, strict=True)
        picture.mark(line, arm, [f"{arm.name}, {at:,.0f} tokens: {_told(*ends)} {unit.name}" for at, *ends in told])
        picture.entry(line, arm)
    label = f"TTFT at the client ({unit.name})"
    scale_axis(axes.yaxis, times * unit.scale, label, zero=True, heart=candidates(evidence) * unit.scale)
    axes.xaxis.set_major_formatter(plain_number)
    axes.set_xlabel("tokens of the prompt that the store holds")
    gridded(axes)
    picture.arms_legend()
    return picture


def _some(prompts: pd.DataFrame, most: int) -> thin.Indices:
    return thin.cloud(prompts["ttft_s"].to_numpy(float), np.zeros(len(prompts)), most)


def _told(middle: float, low: float, high: float) -> str:
    """A value with its interval, if there is one."""
    bounds = f" ({three_digits(low)} to {three_digits(high)})" if np.isfinite([low, high]).all() else ""
    return three_digits(middle) + bounds


def _groups(prefix: "pd.Series[float]") -> "pd.Series[int]":
    """The number of each prompt's group."""
    ranks = prefix.rank(method="dense").astype(int) - 1
    if ranks.max() < GROUPS:
        return ranks
    return pd.qcut(prefix, GROUPS, labels=False, duplicates="drop").astype(int)


def _centre(group: pd.DataFrame) -> dict[str, float]:
    by_run = group.groupby("run")["ttft_s"].agg(lambda times: float(metric_of(times, "p50")))
    found = interval(by_run.to_numpy(float))
    low, high = (end if np.isfinite(end) else np.nan for end in (max(found.low, 0.0), found.high))
    if len(by_run) < LEAST_RUNS:
        low = high = np.nan
    tokens = float(group.drop_duplicates("prompt")["tokens"].median())
    numbers = {"ttft_s": found.value, "low_s": low, "high_s": high}
    return {"tokens": tokens, **numbers, "runs": len(by_run), "requests": len(group)}


def _prompts(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby("prompt")[["tokens", "ttft_s"]].median().reset_index()
