"""Arms that take a part of a hit: what is granted, loaded and saved, and how what workers saw reaches the choice."""

import logging

import pytest
from standins import CHUNK, DictStore, Scheduler, keys_of, make_request, make_side, put
from working import LOADING, A, B, Maker, load, make, store

from harness.connector.scheduler_side import KEPT
from harness.connector.settings import parse_arm
from harness.connector.step import Load, Save
from harness.core.chunks import LoadRequest
from harness.engines.base import Seen

__all__ = ["make", "store"]

PROMPT = list(range(100, 100 + 4 * CHUNK + 3))
FIXED, COST = "hybrid:k=2", "hybrid"


@pytest.fixture
def full() -> DictStore:
    """A store with all four chunks of the prompt."""
    made = DictStore()
    put(made, keys_of(PROMPT))
    return made


def test_the_arm_is_granted_its_own_part_and_loads_exactly_that(full: DictStore) -> None:
    scheduler = Scheduler(make_side(full, arms=(FIXED,)))
    scheduler.add(make_request("r", PROMPT, {"label": "x"}))
    step = scheduler.step({"r": 2 * CHUNK + 3})
    assert step.loads == [Load(FIXED, LoadRequest("r", tuple(keys_of(PROMPT)[:2]), (0, 1, 2, 3)), "x")]
    [note] = step.notes
    assert (note.hit_tokens, note.stored_tokens) == (2 * CHUNK, 4 * CHUNK)
    assert step.tokens == 2 * CHUNK + 3
    assert step.saves == [], "what is computed though it is stored is not saved again"


def test_what_lies_behind_the_stored_chunks_is_saved(full: DictStore) -> None:
    keys = keys_of(PROMPT)
    full.delete(keys[3:])
    scheduler = Scheduler(make_side(full, arms=("hybrid:k=1",)))
    scheduler.add(make_request("r", PROMPT))
    step = scheduler.step({"r": 3 * CHUNK + 3})
    assert step.saves == [Save("r", keys[3], (6, 7), False)]


@pytest.mark.parametrize(("cap", "hit"), [(0, 0), (CHUNK, 1), (2 * CHUNK, 2), (4 * CHUNK, 2)])
def test_a_request_that_caps_the_hit_caps_what_the_arm_chooses_from(full: DictStore, cap: int, hit: int) -> None:
    side = make_side(full, arms=(FIXED,))
    assert side.matched_tokens(make_request("r", PROMPT, {"max_hit_tokens": cap}), 0) == hit * CHUNK


def test_a_request_that_comes_back_from_preemption_keeps_its_part(full: DictStore) -> None:
    scheduler = Scheduler(make_side(full, arms=(FIXED,)))
    scheduler.add(make_request("r", PROMPT))
    first = scheduler.step({"r": 2 * CHUNK + 3})
    scheduler.side.saw({FIXED: Seen(2, 1.0, 1.0, 10)})
    scheduler.preempt("r")
    again = scheduler.step({"r": 2 * CHUNK + 3})
    assert first.loads[0].request.chunks == again.loads[0].request.chunks == tuple(keys_of(PROMPT)[:2])


def test_by_cost_it_says_that_it_knows_nothing_then_learns(full: DictStore, caplog: pytest.LogCaptureFixture) -> None:
    side = make_side(full, arms=(COST, FIXED))

    def hit(name: str) -> int:
        return side.matched_tokens(make_request(name, PROMPT), 0) // CHUNK

    with caplog.at_level(logging.INFO, "vllm.ttft"):
        assert hit("a") == hit("z") == 4
    assert caplog.text.count("arm hybrid has measured no load yet") == 1
    side.saw({FIXED: Seen(2, 1.0, 1.0, 9)})
    assert hit("b") == 4, "what another arm saw is not its own"
    side.saw({COST: Seen(4, 4.0, 0.03, 3)})
    assert hit("c") == 2
    side.saw({COST: Seen(2, 2.0, 0.19, 2 * CHUNK + 3)})
    assert hit("d") == 1, "a second per chunk is far more than a hundredth per token"


def test_of_each_size_only_the_newest_loads_count(full: DictStore) -> None:
    side = make_side(full, arms=(COST,))
    for _ in range(3 * KEPT):
        side.saw({COST: Seen(4, 100.0, 0.03, 3)})
        side.saw({COST: Seen(2, 50.0, 0.19, 2 * CHUNK + 3)})
    for _ in range(KEPT):
        side.saw({COST: Seen(4, 0.004, 0.03, 3)})
        side.saw({COST: Seen(2, 0.002, 0.19, 2 * CHUNK + 3)})
    assert side.matched_tokens(make_request("r", PROMPT), 0) == 4 * CHUNK


def test_the_worker_tells_what_a_step_of_one_arm_showed_once(make: Maker) -> None:
    one = make(more=[parse_arm(COST)])
    one.save((A, (0, 1)), (B, (2, 3)))
    one.step([load(COST, "r", (A, B), (8, 9, 10, 11))], tokens=40)
    seen = one.worker.take_seen()
    assert list(seen) == [COST]
    assert (seen[COST].chunks, seen[COST].tokens) == (2, 40)
    assert one.worker.take_seen() == {}
    one.step([load(LOADING[0], "r", (A,), (8, 9))])
    assert one.worker.take_seen() == {}, "an arm that learns nothing sends nothing"


def test_a_step_that_arms_share_or_in_which_a_load_failed_shows_nothing(make: Maker) -> None:
    one = make(more=[parse_arm(COST)])
    one.save((A, (0, 1)))
    one.step([load(COST, "r", (A,), (8, 9)), load(LOADING[0], "s", (A,), (10, 11))], tokens=40)
    assert one.worker.take_seen() == {}
    assert one.step([load(COST, "r", (A, B), (8, 9, 10, 11))], tokens=40) == {10, 11}
    assert one.worker.take_seen() == {}
