"""Which request a peer's calls belong to, and what they become in its row."""

from pathlib import Path
from typing import Any

import pytest

from harness.core.spans import SpanLog
from harness.experiment.rows import counters, span_rows, timings
from harness.experiment.span_log import PeerLogReader
from harness.replay.outcome import Outcome


def outcome(sent_s: float = 0.0, first_s: float | None = 25.0, *, queue_s: float = 0.5, prefill_s: float = 24.0) -> Outcome:
    return Outcome(sent_s, first_s, 26.0, (1, 2), 512, 25.0, queue_s, prefill_s)


def asked(folder: Path, start_s: float, hit: int | None = 512, *, between: bool = False) -> None:
    record = {"kind": "lookup", "start_s": start_s, "end_s": start_s + 1, "hit_tokens": hit, "between_steps": between}
    written(folder, "worker-scheduler", record)


def computed(
    folder: Path, start_s: float, *, rank: int = 0, wait: float = 2.0, tokens: int | None = 64, end_s: float = 20.0
) -> None:
    """A forward that waits at its start and a second more for its first layer."""
    begin = start_s + wait
    spans = [["wait", -1, start_s, begin], ["wait", 0, begin + 1, begin + 2], ["forward", -1, begin, end_s]]
    told = {"kind": "forward", "rank": rank, "tokens": tokens, "start_s": start_s, "end_s": end_s, "spans": spans}
    written(folder, f"worker-{rank}", told)


def written(folder: Path, name: str, record: dict[str, Any]) -> None:
    log = SpanLog(str(folder), name)
    log.write(record)
    log.close()


def row(log: PeerLogReader, label: str, of: Outcome) -> dict[str, object]:
    return timings(of, log.lookup(label), log.loads(label), logged=False)


def test_a_request_gets_what_lies_in_its_time(tmp_path: Path) -> None:
    log = PeerLogReader(tmp_path)
    asked(tmp_path, 1.0)
    computed(tmp_path, 3.0, end_s=9.0)
    asked(tmp_path, 11.0)
    computed(tmp_path, 13.0, wait=3.0)
    log.settle("1/0", outcome(10.0))
    lookup, loads = log.lookup("1/0"), log.loads("1/0")
    assert lookup is not None
    assert (lookup["start_s"], lookup["end_s"], lookup["hit_tokens"]) == (11.0, 12.0, 512)
    assert [(load["stall_s"], load["rank"]) for load in loads] == [(4.0, 0)]
    assert log.loads("1/0") == []  # once
    told = timings(outcome(10.0), lookup, loads, logged=False)
    assert (told["queue_s"], told["lookup_s"], told["stall_s"], told["load_s"]) == (0.5, 1.0, 4.0, None)
    assert told["compute_s"] == pytest.approx(24.0 - 1.0 - 4.0)
    assert counters(loads) == {}  # what was fetched is not seen from outside
    assert [one["kind"] for one in span_rows(1, "p", lookup, loads)] == ["lookup", "wait", "wait", "forward"]
    log.settle("1/1", outcome(0.0))
    assert log.lookup("1/1") is None  # what was before is forgotten


@pytest.mark.parametrize(("ends", "tokens"), [(40.0, 64), (40.0, None), (24.0, 1)])
def test_the_step_after_the_first_token_is_no_part_of_it(tmp_path: Path, ends: float, tokens: int | None) -> None:
    """It begins before the client has the token, and may even end before that."""
    log = PeerLogReader(tmp_path)
    asked(tmp_path, 1.0)
    computed(tmp_path, 3.0)
    computed(tmp_path, 21.0, tokens=tokens, end_s=ends)
    log.settle("1/0", outcome())
    [load] = log.loads("1/0")
    assert load["stall_s"] == 3.0
    assert [span[0] for span in load["spans"]].count("forward") == 1


def test_parts_of_a_long_prompt_belong_together(tmp_path: Path) -> None:
    log = PeerLogReader(tmp_path)
    asked(tmp_path, 1.0)
    for start_s in (3.0, 9.0):
        computed(tmp_path, start_s, end_s=start_s + 5)
    log.settle("1/0", outcome())
    assert [load["stall_s"] for load in log.loads("1/0")] == [6.0]


@pytest.mark.parametrize("asks", [1, 3])
def test_a_miss_has_a_lookup_and_computes_the_rest(tmp_path: Path, asks: int) -> None:
    log = PeerLogReader(tmp_path)
    for number in range(asks):
        asked(tmp_path, 1.0 + number, hit=0 if number == asks - 1 else None)
    computed(tmp_path, 6.0, wait=0.0)
    of = outcome(queue_s=5.0, prefill_s=19.0) if asks > 1 else outcome()
    log.settle("1/0", of)
    told = row(log, "1/0", of)
    assert (told["lookup_s"], told["stall_s"]) == (float(asks), None)
    # Asked again, all but the last ask lay in earlier steps, which vLLM counts as queue.
    assert (told["queue_s"], told["compute_s"]) == ((2.0, 19.0) if asks > 1 else (0.5, 23.0))


def test_nothing_is_made_up_where_nothing_was_seen(tmp_path: Path) -> None:
    log = PeerLogReader(tmp_path)
    asked(tmp_path, 1.0)
    log.settle("1/0", outcome())
    log.settle("1/1", outcome(first_s=None))
    assert (log.lookup("1/0"), log.loads("1/0"), log.lookup("1/1")) == (None, [], None)
    assert row(log, "1/0", outcome())["compute_s"] is None


def test_ranks_work_side_by_side_and_the_longest_stall_counts(tmp_path: Path) -> None:
    log = PeerLogReader(tmp_path)
    asked(tmp_path, 1.0)
    for rank, wait in ((1, 3.0), (0, 2.0)):
        computed(tmp_path, 3.0, rank=rank, wait=wait)
    log.settle("1/0", outcome())
    assert [(load["rank"], load["stall_s"]) for load in log._loads["1/0"]] == [(0, 3.0), (1, 4.0)]
    told = row(log, "1/0", outcome())
    assert (told["stall_s"], told["compute_s"]) == (4.0, pytest.approx(24.0 - 1.0 - 4.0))


@pytest.mark.parametrize("between", [True, False])
def test_what_was_loaded_before_the_step_is_a_wait_and_no_queue(tmp_path: Path, between: bool) -> None:
    """Between two steps, or while it was asked again: vLLM counts the request as queued until then, here from 0.5 to 6.5."""
    log = PeerLogReader(tmp_path)
    asked(tmp_path, 1.0, hit=512 if between else None, between=between)
    if not between:
        asked(tmp_path, 5.0)
    computed(tmp_path, 7.0, wait=0.0)
    of = outcome(queue_s=6.0, prefill_s=18.0)
    log.settle("1/0", of)
    [load] = log._loads["1/0"]
    assert load["spans"][0][:4] == ["wait", -1, 2.0, 7.0]
    told = row(log, "1/0", of)
    assert (told["lookup_s"], told["stall_s"], told["queue_s"]) == (1.0, 6.0, 0.0)  # 5 before the step and 1 inside it
    assert told["compute_s"] == pytest.approx(18.0 - 1.0)
    assert sum(float(str(told[name])) for name in ("queue_s", "lookup_s", "stall_s", "compute_s")) == pytest.approx(6.0 + 18.0)


def test_a_wait_ends_where_vllms_queue_does(tmp_path: Path) -> None:
    """The worker has the step a little later; that is time of the step, which must not count twice."""
    log = PeerLogReader(tmp_path)
    asked(tmp_path, 1.0, between=True)
    computed(tmp_path, 7.0, wait=0.0)
    of = outcome(queue_s=5.5, prefill_s=18.5)
    log.settle("1/0", of)
    told = row(log, "1/0", of)
    assert sum(float(str(told[name])) for name in ("queue_s", "lookup_s", "stall_s", "compute_s")) == pytest.approx(5.5 + 18.5)
    assert told["stall_s"] == 5.5
