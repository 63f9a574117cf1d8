"""Which request a peer's calls belong to, and what they become in its row."""

from pathlib import Path
from typing import Any

import pytest

from harness.experiment.peer_trace import PeerTrace
from harness.experiment.rows import counters, span_rows, timings
from harness.replay.outcome import Outcome
from harness.trace_log import Trace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def asked(folder: Path, start_s: float, hit: int | None = 512, *, between: bool = False) -> None:
    record = {"kind": "lookup", "start_s": start_s, "end_s": start_s + 1, "hit_tokens": hit, "between_steps": between}
    written(folder, "worker-scheduler", record)


def computed(folder: Path, start_s: float, rank: int = 0, waits: float = 2.0) -> None:
    spans = [
        ["wait", -1, start_s, start_s + waits],
        ["wait", 0, start_s + 5, start_s + 6],
        ["forward", -1, start_s + waits, 20.0],
    ]
    written(folder, f"worker-{rank}", {"kind": "forward", "rank": rank, "start_s": start_s, "end_s": 20.0, "spans": spans})


def written(folder: Path, name: str, record: dict[str, Any]) -> None:
    trace = Trace(str(folder), name)
    trace.write(record)
    trace.close()


def test_a_request_gets_what_lies_in_its_time(folder: Path) -> None:
    trace = PeerTrace(folder)
    asked(folder, 1.0)
    computed(folder, 3.0)
    asked(folder, 11.0)
    computed(folder, 13.0, waits=3.0)
    computed(folder, 30.0)  # the step of its second token
    trace.settle("1/0", 10.0, 25.0)
    assert trace.lookup("1/0") == {"start_s": 11.0, "end_s": 12.0, "hit_tokens": 512}
    [load] = trace.loads("1/0")
    assert (load["stall_s"], load["between_s"], load["rank"]) == (4.0, 0.0, 0)
    assert trace.loads("1/0") == []  # once
    trace.settle("1/1", 0.0, 100.0)
    assert trace.lookup("1/1") is None  # what was before is forgotten


def test_without_a_hit_there_is_no_load(folder: Path) -> None:
    trace = PeerTrace(folder)
    asked(folder, 1.0, hit=0)
    computed(folder, 3.0)
    trace.settle("1/0", 0.0, 25.0)
    assert trace.lookup("1/0") is not None
    assert trace.loads("1/0") == []


def test_nothing_is_made_up_where_nothing_was_seen(folder: Path) -> None:
    trace = PeerTrace(folder)
    asked(folder, 1.0)
    trace.settle("1/0", 0.0, 25.0)
    assert (trace.lookup("1/0"), trace.loads("1/0")) == (None, [])


def test_a_lookup_that_is_asked_again_lasts_until_its_answer(folder: Path) -> None:
    trace = PeerTrace(folder)
    asked(folder, 1.0, hit=None)
    asked(folder, 4.0)
    computed(folder, 6.0)
    trace.settle("1/0", 0.0, 25.0)
    assert trace.lookup("1/0") == {"start_s": 1.0, "end_s": 5.0, "hit_tokens": 512}


def test_each_rank_has_its_own_load(folder: Path) -> None:
    trace = PeerTrace(folder)
    asked(folder, 1.0)
    for rank, waits in ((0, 2.0), (1, 3.0)):
        computed(folder, 3.0, rank, waits)
    trace.settle("1/0", 0.0, 25.0)
    loads = trace.loads("1/0")
    assert [(load["rank"], load["stall_s"]) for load in loads] == [(0, 3.0), (1, 4.0)]
    outcome = Outcome(0.0, 25.0, 26.0, (1, 2), 512, 25.0, 0.5, 24.0)
    row = timings(outcome, trace.lookup("1/0") or {"start_s": 1.0, "end_s": 2.0}, loads, traced=False)
    assert (row["lookup_s"], row["stall_s"], row["load_s"]) == (1.0, 4.0, None)
    assert row["compute_s"] == pytest.approx(24.0 - 1.0 - 4.0)
    assert counters(loads) == {}  # what was fetched is not seen from outside
    assert {one["kind"] for one in span_rows(1, "p", None, loads)} == {"wait", "forward"}


def test_a_load_between_two_steps_is_a_wait_and_not_a_queue(folder: Path) -> None:
    """vLLM counts the request as queued until such a load is done: here from 0.5 to 7."""
    trace = PeerTrace(folder)
    asked(folder, 1.0, between=True)
    computed(folder, 7.0, waits=0.0)
    trace.settle("1/0", 0.0, 25.0)
    lookup, loads = trace.lookup("1/0"), trace.loads("1/0")
    assert (loads[0]["between_s"], loads[0]["stall_s"]) == (5.0, 6.0)
    assert loads[0]["spans"][0][:4] == ["wait", -1, 2.0, 7.0]
    row = timings(Outcome(0.0, 25.0, 26.0, (1, 2), 512, 25.0, 6.5, 18.0), lookup, loads, traced=False)
    assert row["queue_s"] == pytest.approx(6.5 - 1.0 - 5.0)
    assert row["stall_s"] == 6.0
    assert row["compute_s"] == pytest.approx(18.0 - 1.0)  # the wait of layer 0 lies inside
