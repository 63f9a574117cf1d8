"""Shift function, prefix lengths and single stories: what they draw is what was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import results
from harness.reporting.figures import timeline
from harness.reporting.figures.lengths import GROUPS, curves
from harness.reporting.figures.shift import limits, shifts
from harness.reporting.figures.stories import median_stories, slowest_stories
from harness.reporting.figures.style import paper
from harness.results.evidence import Evidence, gather
from harness.stats import shift_function
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "floor")


def evidence_of(folder: Path, **more: Any) -> Evidence:
    return gather(results.load(write_synthetic_run(folder, ARMS, **more)))


def test_the_shift_function_has_the_deciles_that_the_runs_can_tell(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, rounds=4, prompts=5, spans=False)
    found = shifts(evidence)
    assert [arm.name for arm in found] == list(ARMS[1:3])
    for arm, shift in found.items():
        assert shift.quantiles == ("p20", "p30", "p40", "p50", "p60", "p70", "p80")
        assert shift == shift_function(evidence.rows, ARMS[0], arm.name, shift.quantiles)
    low, high = limits(list(found.values()))
    assert low <= min(min(shift.ratios) for shift in found.values())
    assert high >= 1


def test_too_few_rounds_have_no_shift_function(tmp_path: Path) -> None:
    assert shifts(evidence_of(tmp_path, rounds=2, prompts=12, spans=False)) == {}


def test_a_curve_over_the_prefix_holds_every_request_once(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, rounds=3, prompts=60, spans=False)
    found = curves(evidence)
    assert [arm.name for arm in found] == list(ARMS)
    for arm, curve in found.items():
        rows = evidence.of(arm)
        assert len(curve.groups) <= max(GROUPS, rows["expected_hit_tokens"].nunique())
        assert curve.groups["requests"].sum() == len(rows)
        assert curve.groups["tokens"].is_monotonic_increasing
        assert (curve.groups["low_s"] <= curve.groups["ttft_s"]).all()
        assert len(curve.prompts) == 60
        one = rows[rows["prompt"] == "p007"]
        shown = curve.prompts.set_index("prompt").loc["p007"]
        assert shown["ttft_s"] == pytest.approx(one["ttft_s"].median())
        assert shown["tokens"] == one["expected_hit_tokens"].iloc[0]


def test_one_length_has_no_curve(tmp_path: Path) -> None:
    assert curves(evidence_of(tmp_path, rounds=1, prompts=1, spans=False)) == {}


def test_the_slowest_story_is_the_slowest_request(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, rounds=2, prompts=6)
    found = slowest_stories(evidence)
    assert [story.arm.name for story in found] == list(ARMS[:3])  # the floor fetches nothing
    for story in found:
        assert story.ttft_s == story.aim_s == evidence.of(story.arm)["ttft_s"].max()
        assert np.isfinite(story.spans["end_s"]).all()


def kept(evidence: Evidence, arm: str, places: list[int]) -> Evidence:
    """The run with spans of an arm's requests at these ranks of TTFT alone."""
    rows = evidence.rows[evidence.rows["arm"] == arm].sort_values("ttft_s").iloc[places]
    keys = set(zip(rows["run"], rows["prompt"], strict=True))
    spans = evidence.run.spans
    mine = [key in keys for key in zip(spans["run"], spans["request"], strict=True)]
    return replace(evidence, run=replace(evidence.run, spans=spans[mine]))


def test_where_few_spans_were_kept_the_median_request_is_not_called_the_slowest(tmp_path: Path) -> None:
    whole = evidence_of(tmp_path, rounds=2, prompts=6)
    one = kept(whole, ARMS[2], [6])
    assert len(median_stories(one)) == 1
    assert slowest_stories(one) == []
    assert timeline.draw_slowest(one) is None
    (usual,), (slow,) = (choose(kept(whole, ARMS[2], [5, 9])) for choose in (median_stories, slowest_stories))
    assert usual.ttft_s != slow.ttft_s < slow.aim_s
    with paper():
        picture = timeline.draw_slowest(kept(whole, ARMS[2], [5, 9]))
        assert picture is not None
        assert "(slowest of the arm: " in picture.axes[0].get_title(loc="left")
