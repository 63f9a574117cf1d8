"""From outcome and span log to a row: parts that add up, and ranks that count as they work, side by side."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.experiment.rows import counters, span_rows, timings
from harness.replay.outcome import Outcome
from harness.results import SPAN_COLUMNS

LOOKUP = {"start_s": 5.0, "end_s": 5.25}
SECONDS = st.floats(0, 100)


def load(start: float | None = 5.5, end: float | None = 6.0, stall: float = 0.5, **more: Any) -> dict[str, Any]:
    counts = {"operations": 2, "keys": 4, "bytes": 100, "spans": [["fetch", 3, 5.5, 6.0, 100, 4], ["wait", -1, 5.5, 6.0, 0, 0]]}
    return {"start_s": start, "end_s": end, "stall_s": stall, "rank": 0, **counts, **more}


@settings(deadline=None)
@given(SECONDS, SECONDS, st.lists(SECONDS, max_size=3))
def test_lookup_stall_and_compute_add_up_to_the_prefill(prefill: float, lookup: float, stalls: list[float]) -> None:
    found = timings(
        Outcome(0.0, prefill_s=prefill), {"start_s": 7.0, "end_s": 7.0 + lookup}, [load(stall=stall) for stall in stalls]
    )
    parts = [found["lookup_s"], found["stall_s"] or 0.0, found["compute_s"]]
    assert sum(part for part in parts if isinstance(part, float)) == pytest.approx(prefill, abs=1e-6)
    assert found["stall_s"] == (max(stalls) if stalls else None)


def test_times_at_the_client_count_from_sending() -> None:
    outcome = Outcome(10.0, first_s=10.5, last_s=12.0, server_ttft_s=0.4, queue_s=0.125, prefill_s=0.375)
    found = timings(outcome, None, [])
    assert found["ttft_s"] == 0.5
    assert found["e2e_s"] == 2.0
    assert (found["server_ttft_s"], found["queue_s"]) == (0.4, 0.125)
    assert found["compute_s"] == 0.375
    assert (found["lookup_s"], found["load_s"], found["stall_s"]) == (None, None, None)


def test_a_failed_request_has_no_times() -> None:
    assert set(timings(Outcome(10.0, error="it broke"), None, []).values()) == {None}


def test_ranks_load_side_by_side() -> None:
    ranks = [load(5.5, 6.0, 0.25), load(5.75, 6.5, 0.75)]
    found = timings(Outcome(5.0, prefill_s=2.0), LOOKUP, ranks)
    assert found["load_s"] == 1.0  # from the first fetch of any to the last byte of any
    assert found["stall_s"] == 0.75
    assert found["compute_s"] == 2.0 - 0.25 - 0.75
    assert counters(ranks) == {"operations": 4, "keys": 8, "bytes": 200}


def test_an_arm_that_moves_nothing_has_no_load() -> None:
    floor = load(None, None, 0.0)
    assert timings(Outcome(5.0, prefill_s=2.0), LOOKUP, [floor])["load_s"] is None
    assert timings(Outcome(5.0, prefill_s=2.0), LOOKUP, [floor, load()])["load_s"] == 0.5


def test_nothing_loaded_leaves_the_counters_empty() -> None:
    assert counters([]) == {}


def test_spans_have_the_columns_of_their_file() -> None:
    rows = span_rows(3, "p1", LOOKUP, [load(), load(spans=[["fetch", 0, 5.0, 5.5, 7, 1]])])
    assert [row["kind"] for row in rows] == ["lookup", "fetch", "wait", "fetch"]
    assert all(set(row) == set(SPAN_COLUMNS) for row in rows)
    assert {(row["run"], row["request"]) for row in rows} == {(3, "p1")}
    assert rows[0] == {
        "run": 3, "request": "p1", "layer": -1, "kind": "lookup", "start_s": 5.0, "end_s": 5.25, "bytes": 0, "keys": 0,
    }  # fmt: skip
    assert rows[1] | {"run": 0, "request": ""} == {
        "run": 0, "request": "", "layer": 3, "kind": "fetch", "start_s": 5.5, "end_s": 6.0, "bytes": 100, "keys": 4,
    }  # fmt: skip
    assert span_rows(3, "p1", None, []) == []


def test_the_spans_are_those_of_the_rank_that_stalled_longest() -> None:
    """Side by side in one picture, what two ranks did at once would look like one that did twice as much."""
    slow = load(stall=0.75, rank=1, spans=[["fetch", 0, 5.0, 5.5, 7, 1]])
    after_preemption = load(stall=0.5, rank=1, spans=[["fetch", 1, 6.0, 6.5, 9, 1]])
    rows = span_rows(3, "p1", None, [load(), slow, after_preemption])
    assert [row["bytes"] for row in rows] == [7, 9]
    assert [row["layer"] for row in span_rows(3, "p1", None, [load(), load(rank=1, spans=[])])] == [3, -1]


def test_gaps_between_tokens_become_their_mean_and_their_longest() -> None:
    outcome = Outcome(10.0, 11.0, 11.6, tokens=(1, 2, 3, 4), token_gaps_s=(0.1, 0.1, 0.4))
    found = timings(outcome, None, [])
    assert found["tpot_s"] == pytest.approx(0.2)
    assert found["itl_max_s"] == 0.4
    only = timings(Outcome(10.0, 11.0, 11.0, tokens=(1,)), None, [])
    assert (only["tpot_s"], only["itl_max_s"]) == (None, None)
