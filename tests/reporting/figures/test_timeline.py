"""The timeline tells the right request's story, and its rows and lanes hold what they say."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import results
from harness.reporting.figures import stories, timeline
from harness.reporting.figures.style import paper
from harness.results.evidence import Evidence, gather
from harness.testing.runs import write_synthetic_run

BOTH = ("chunkwise:pool=8", "layerwise:depth=4,layers_per_fetch=1")


def evidence_of(folder: Path, arms: tuple[str, ...], **more: Any) -> Evidence:
    return gather(results.load(write_synthetic_run(folder / "run", arms, **more)))


@pytest.fixture
def style() -> Iterator[None]:
    with paper():
        yield


def test_the_timeline_tells_of_the_request_of_median_ttft(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, BOTH, rounds=3, prompts=5)
    story = stories.median_stories(evidence)[1]
    times = evidence.of(evidence.arms[1])["ttft_s"]
    assert abs(story.ttft_s - times.median()) == (times - times.median()).abs().min()
    assert story.spans["start_s"].min() == 0
    assert set(story.spans["request"]) == {story.prompt}
    assert story.spans["run"].nunique() == 1
    assert sorted(story.spans.loc[story.spans["kind"] == "fetch", "layer"]) == list(range(24))


def test_the_timeline_takes_waits_that_name_no_request_from_within_its_time(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, BOTH, rounds=1, prompts=3)
    spans = evidence.run.spans
    spans.loc[spans["kind"] == "wait", "request"] = ""
    story = stories.median_stories(evidence)[1]
    waits = story.spans[story.spans["kind"] == "wait"]
    assert sorted(waits["layer"]) == list(range(24))


def test_a_fetch_of_several_layers_is_as_tall_as_they_are(tmp_path: Path, style: None) -> None:
    evidence = evidence_of(tmp_path, ("layerwise:layers_per_fetch=4",), rounds=1, prompts=1)
    spans = evidence.run.spans
    grouped = spans[(spans["kind"] != "fetch") | (spans["layer"] % 4 == 0)]
    evidence = replace(evidence, run=replace(evidence.run, spans=grouped))
    picture = timeline.draw(evidence)
    assert picture is not None
    rows = timeline.rows_of(stories.median_stories(evidence)[0].spans)
    blue = mpl.colors.to_rgba(timeline.KINDS["fetch"].colour)
    fetches = [item for item in picture.axes[0].collections if tuple(np.asarray(item.get_facecolor())[0]) == blue]
    boxes = sorted((box.y0, box.y1) for item in fetches for box in (path.get_extents() for path in item.get_paths()))
    assert len(boxes) == 6
    for number, (top, bottom) in enumerate(boxes):
        assert int(top) == rows.first("") + 4 * number
        assert int(bottom) == rows.first("") + 4 * number + 3


def test_no_panel_ends_before_its_spans(tmp_path: Path, style: None) -> None:
    """The panels share an axis, and the slowest arm may be any of them."""
    evidence = evidence_of(tmp_path, (BOTH[1], BOTH[0], "chunkwise:pool=0"), rounds=1, prompts=1)
    picture = timeline.draw(evidence)
    assert picture is not None
    ends = [max(path.get_extents().x1 for item in axes.collections for path in item.get_paths()) for axes in picture.axes]
    assert ends[-1] == max(ends) > ends[0]
    assert all(axes.get_xlim() == picture.axes[0].get_xlim() for axes in picture.axes)
    assert max(ends) < picture.axes[0].get_xlim()[1] < 1.1 * max(ends)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 5)), min_size=1, max_size=30))
@settings(deadline=None)
def test_reads_in_one_lane_never_overlap(times: list[tuple[float, float]]) -> None:
    frame = pd.DataFrame(
        {
            "run": 0,
            "request": "p",
            "kind": "fetch",
            "layer": -1,
            "start_s": [start for start, _ in times],
            "end_s": [start + length for start, length in times],
        }
    ).sort_values("start_s", kind="stable")
    frame["lane"] = stories._lanes(frame)
    for _, lane in frame.groupby("lane"):
        assert (lane["start_s"].to_numpy()[1:] >= lane["end_s"].to_numpy()[:-1]).all()
    most = max(((frame["start_s"] <= at) & (frame["end_s"] > at)).sum() for at in frame["start_s"])
    assert frame["lane"].max() + 1 == most
    assert timeline.rows_of(frame).lanes == most


def test_the_last_fetch_of_several_layers_reaches_to_the_models_last_layer() -> None:
    spans = pd.DataFrame({"kind": "fetch", "layer": [0, 4, 8], "lane": 0, "start_s": [0.0, 1.0, 2.0], "end_s": [1.0, 2.0, 3.0]})
    assert timeline.rows_of(spans, 12).layers == 12
    assert timeline.rows_of(spans).layers == 9  # run.json does not say: what is seen
    assert timeline.rows_of(spans.assign(layer=-1), 12).layers == 0


@given(st.lists(st.tuples(st.floats(0, 0.02), st.floats(0.001, 0.05)), min_size=1, max_size=40))
@settings(deadline=None)
def test_merged_spans_cover_the_same_time(steps: list[tuple[float, float]]) -> None:
    """One after the other, as chunks are fetched: gap and length of each."""
    ends = np.cumsum([gap + length for gap, length in steps])
    starts = ends - [length for _, length in steps]
    spans = pd.DataFrame({"kind": "fetch", "layer": 0, "lane": 0, "start_s": starts, "end_s": ends})
    pixel = 0.005
    found = timeline.merged(spans, pixel)
    assert len(found) <= len(spans)
    assert (found["start_s"].iloc[0], found["end_s"].iloc[-1]) == (starts[0], ends[-1])
    gaps = found["start_s"].to_numpy()[1:] - found["end_s"].to_numpy()[:-1]
    assert (gaps >= -1e-12).all()
    hidden = (ends[-1] - starts[0] - (ends - starts).sum()) - gaps.sum()
    assert -1e-12 <= hidden <= pixel * (len(spans) - len(found)) + 1e-12
    assert len(timeline.merged(spans, 0.0)) == len(spans)
