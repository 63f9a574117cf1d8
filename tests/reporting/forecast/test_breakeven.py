"""The break-even map: its line is the model's, and a run's place on it follows from its spans."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.recurrence import layerwise_ttft
from harness.reporting.forecast.breakeven import busy, closed_form, depths, points, recurrence
from harness.results import load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "floor")


@pytest.mark.parametrize("a", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("depth", [1, 2, 4, 24])
def test_on_the_line_both_engines_take_equally_long(a: float, depth: int) -> None:
    b = recurrence(a, 24, depth)
    assert layerwise_ttft([a * b / 24] * 24, [1 / 24] * 24, depth) == pytest.approx(1 + a, rel=1e-6)


@pytest.mark.parametrize("a", [0.2, 1.0, 5.0])
def test_many_layers_and_depth_come_to_the_closed_form(a: float) -> None:
    assert recurrence(a, 2000, 2000) == pytest.approx(float(closed_form(np.array([a]))[0]), rel=2e-3)
    assert recurrence(a, 24, 1) == pytest.approx(1.0, rel=1e-6)  # a depth of 1 hides nothing


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), min_size=1, max_size=20))
@settings(deadline=None)
def test_busy_is_the_time_in_which_a_fetch_was_under_way(fetches: list[tuple[int, int]]) -> None:
    covered = {second for start, length in fetches for second in range(start, start + length)}
    frame = pd.DataFrame(
        {
            "run": 3,
            "request": "p",
            "kind": "fetch",
            "start_s": [float(start) for start, _ in fetches],
            "end_s": [float(start + length) for start, length in fetches],
        }
    )
    other = frame.assign(request="q", end_s=frame["start_s"])
    found = busy(pd.concat([frame, other, frame.assign(kind="wait", end_s=1e6)], ignore_index=True))
    assert found[3, "p"] == pytest.approx(len(covered))
    assert found[3, "q"] == 0


def test_the_points_of_a_run(tmp_path: Path) -> None:
    evidence = gather(load(write_synthetic_run(tmp_path, ARMS, rounds=3, prompts=5)))
    found = {point.chunkwise.name: point for point in points(evidence)}
    assert set(found) == set(ARMS[:2])
    rows = evidence.rows.groupby(["arm", "prompt"])[["ttft_s", "load_s", "compute_s"]].median()
    for name, point in found.items():
        chunkwise, layerwise, floor = (rows.loc[arm] for arm in (name, ARMS[2], "floor"))
        assert point.spans and point.floored and point.prompts == 5
        assert point.ratio == pytest.approx((layerwise["ttft_s"] / chunkwise["ttft_s"]).median())
        assert point.a == pytest.approx((chunkwise["load_s"] / floor["compute_s"]).median(), rel=1e-6)
        assert point.b == pytest.approx((layerwise["load_s"] / chunkwise["load_s"]).median(), rel=1e-6)
    assert depths(evidence) == [(4, "1")]


def test_without_spans_the_load_is_the_rows_and_says_so(tmp_path: Path) -> None:
    evidence = gather(load(write_synthetic_run(tmp_path, ARMS[1:3], rounds=3, prompts=5, spans=False)))
    (point,) = points(evidence)
    assert not point.spans and not point.floored
    assert point.b == pytest.approx(1.1, rel=0.2)


def test_one_engine_alone_has_no_point(tmp_path: Path) -> None:
    assert points(gather(load(write_synthetic_run(tmp_path, ARMS[:2], rounds=1, prompts=2)))) == []
