"""The exported trace: every span once, on threads in which nothing overlaps, on the spans' own clock."""

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.commands.timeline import timeline
from harness.core.errors import ResultsError
from harness.results import load
from harness.results.export import SIDES, lanes
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=8", "layerwise:<b>depth=4", "floor")


def test_every_span_is_there_once_in_the_process_of_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_synthetic_run(tmp_path, ARMS, rounds=2, prompts=3, void={1: "other KV"})
    timeline(tmp_path)
    told = json.loads((tmp_path / "timeline.json").read_text())
    spans = load(tmp_path).spans
    assert f"Wrote {len(spans):,} spans" in capsys.readouterr().out
    events = told["traceEvents"]
    complete = [event for event in events if event["ph"] == "X" and event["cat"] != "request"]
    assert len(complete) == len(spans)
    zero = float(spans["start_s"].min())
    found = sorted((e["pid"], e["name"].split()[0], e["ts"] / 1e6, e["dur"] / 1e6) for e in complete)
    columns = [spans[name].tolist() for name in ("run", "kind", "start_s", "end_s")]
    wanted = sorted((run, kind, start - zero, end - start) for run, kind, start, end in zip(*columns, strict=True))
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2:] == pytest.approx(theirs[2:], abs=2e-9)
    assert {event["cat"] for event in complete} <= set(SIDES.values())
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names[0] == "run 0: chunkwise:pool=8"
    assert names[1] == "run 1: layerwise:<b>depth=4 (does not count: other KV)"
    requests = [event for event in events if event.get("cat") == "request"]
    assert len(requests) == 6 * 3


def test_nothing_overlaps_on_a_thread_and_every_thread_has_a_name(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path / "run", ARMS, rounds=1, prompts=3)
    timeline(tmp_path / "run", tmp_path / "own.json")
    events = json.loads((tmp_path / "own.json").read_text())["traceEvents"]
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    threads = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert set(threads) == named
    for times in threads.values():
        times.sort()
        assert all(later[0] >= earlier[1] - 0.01 for earlier, later in pairwise(times))


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 5)), min_size=1, max_size=40))
@settings(deadline=None)
def test_there_are_no_more_lanes_than_spans_at_once(times: list[tuple[float, float]]) -> None:
    spans = sorted((start, start + length) for start, length in times)
    found = lanes([start for start, _ in spans], [end for _, end in spans])
    assert max(found) + 1 == max(sum(start <= at < end for start, end in spans) for at, _ in spans)
    for lane in set(found):
        mine = [span for span, place in zip(spans, found, strict=True) if place == lane]
        assert all(later[0] >= earlier[1] for earlier, later in pairwise(mine))


def test_without_spans_there_is_no_file_but_a_sentence(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=1, spans=False)
    with pytest.raises(ResultsError, match="has no spans"):
        timeline(tmp_path)
    assert not (tmp_path / "timeline.json").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=1)
    with pytest.raises(ResultsError, match="cannot be written"):
        timeline(tmp_path, tmp_path / "missing" / "timeline.json")
