"""Shift function, prefix lengths and single stories: what they draw is what was measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import results
from harness.reporting.figures.lengths import GROUPS, curves
from harness.reporting.figures.shift import limits, shifts
from harness.reporting.figures.stories import slowest_story, stories
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
    arm = evidence.arms[2]
    story = slowest_story(evidence, arm)
    assert story is not None
    times = evidence.of(arm)["ttft_s"]
    assert story.ttft_s == times.max()
    assert [one.ttft_s for one in stories(evidence, arm, [0.0, 1.0])] == [times.min(), times.max()]
    assert stories(evidence, evidence.arms[3], [0.5]) == []  # the floor fetches nothing
    assert np.isfinite(story.spans["end_s"]).all()
