"""The scheduler's half of the connector when things go otherwise: preemption, failed loads, requests that end."""

import pytest
from standins import ARMS, CHUNK, DictStore, Scheduler, keys_of, make_output, make_request, make_side, put

from harness.connector.step import Save
from harness.core.chunks import LoadRequest

PROMPT = list(range(100, 100 + 4 * CHUNK + 3))


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def scheduler(store: DictStore) -> Scheduler:
    return Scheduler(make_side(store))


def tracked_ids(scheduler: Scheduler) -> list[str]:
    return list(scheduler.side._tracked)


# -- preemption ----------------------------------------------------------------------------------


def test_a_resumed_request_loads_again_into_its_new_blocks(store: DictStore, scheduler: Scheduler) -> None:
    keys = keys_of(PROMPT)
    put(store, keys[:2])
    scheduler.add(make_request("r", PROMPT))
    scheduler.step({"r": 9})
    scheduler.preempt("r")
    scheduler.add(make_request("thief", PROMPT, {"arm": "recompute"}))
    scheduler.step({"thief": 20})
    step = scheduler.step({"r": 4})
    blocks = scheduler.live["r"].blocks
    assert [load.request for load in step.loads] == [LoadRequest("r", tuple(keys[:2]), tuple(blocks[:4]))]
    assert blocks[:4] != [0, 1, 2, 3]
    assert len(store.lookups) == 1


def test_what_was_saved_before_the_preemption_is_not_saved_again(scheduler: Scheduler) -> None:
    keys = keys_of(PROMPT)
    scheduler.add(make_request("r", PROMPT))
    before = scheduler.step({"r": 17}).saves
    scheduler.preempt("r")
    after = [save for count in (17, 18) for save in scheduler.step({"r": count}).saves]
    assert ([save.key for save in before], [save.key for save in after]) == (keys[:2], keys[2:])
    assert after[0].blocks == tuple(scheduler.live["r"].blocks[4:6])


def test_a_resumed_request_may_come_back_as_a_new_one(store: DictStore, scheduler: Scheduler) -> None:
    """vLLM's second model runner lists resumed requests among the new ones: no proof of the old blocks then."""
    put(store, keys_of(PROMPT)[:2])
    scheduler.add(make_request("r", PROMPT, {"label": "x"}))
    scheduler.step({"r": 1})
    scheduler.preempt("r")
    scheduler.live["r"].seen = False
    step = scheduler.step({"r": 1})
    assert (len(step.loads), step.prove) == (1, [])
    assert scheduler.step({"r": 1}).prove == ["r"]


# -- failures ------------------------------------------------------------------------------------


def test_after_a_failed_load_the_chunk_and_what_follows_are_saved_again(store: DictStore, scheduler: Scheduler) -> None:
    keys = keys_of(PROMPT)
    put(store, keys[:3])
    live = scheduler.add(make_request("r", PROMPT, {"label": "x"}))
    failing = scheduler.step({"r": len(PROMPT) - 3 * CHUNK})
    assert [save.key for save in failing.saves] == keys[3:]
    scheduler.fail(set(live.blocks[2:4]), ["r"])
    assert live.computed == CHUNK
    step = scheduler.step({"r": len(PROMPT) - CHUNK})
    assert step.saves == [Save("r", keys[i], tuple(live.blocks[2 * i : 2 * i + 2]), replace=True) for i in (1, 2, 3)]
    assert (step.loads, step.prove) == ([], [])


def test_a_failed_load_of_a_request_that_must_not_save_saves_nothing(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT)[:3])
    live = scheduler.add(make_request("r", PROMPT, {"save": False}))
    scheduler.step({"r": len(PROMPT) - 3 * CHUNK})
    scheduler.fail({live.blocks[0]}, ["r"])
    assert scheduler.step({"r": len(PROMPT)}).idle


def test_a_request_that_shares_failed_blocks_is_saved_again_too(store: DictStore, scheduler: Scheduler) -> None:
    """vLLM's own prefix cache gives blocks that are being loaded to other requests of the same step."""
    put(store, keys_of(PROMPT)[:2])
    owner = scheduler.add(make_request("owner", PROMPT))
    scheduler.add(make_request("guest", PROMPT, {"arm": "recompute"}))
    scheduler.step({"owner": 3})
    step = scheduler.step({"guest": CHUNK}, local={"guest": owner.blocks[:4]})
    assert [save.key for save in step.saves] == keys_of(PROMPT)[:3]
    scheduler.fail(set(owner.blocks[2:4]), ["owner", "guest"])
    again = scheduler.step({"guest": 2 * CHUNK}).saves
    assert [(save.key, save.replace) for save in again] == [(key, True) for key in keys_of(PROMPT)[1:3]]


def test_other_requests_are_not_touched_by_a_failure(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT)[:1])
    bad = scheduler.add(make_request("bad", PROMPT))
    scheduler.add(make_request("good", PROMPT, {"label": "x"}))
    scheduler.step({"bad": 1, "good": 1})
    scheduler.fail({bad.blocks[0]}, ["bad", "good"])
    step = scheduler.step({"good": CHUNK})
    assert step.prove == ["good"]
    assert [(save.key, save.replace) for save in step.saves] == [(keys_of(PROMPT)[1], False)]


# -- trace and end -------------------------------------------------------------------------------


def test_a_labelled_request_is_noted_once_and_proven_a_step_after_its_load(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT)[:2])
    scheduler.add(make_request("r", PROMPT, {"label": "run/3"}))
    first, second, third = (scheduler.step({"r": 1}) for _ in range(3))
    (note,) = first.notes
    assert (note.label, note.hit_tokens) == ("run/3", 2 * CHUNK)
    assert note.start_s <= note.end_s
    assert (first.prove, second.prove, third.prove) == ([], ["r"], [])
    assert (second.notes, third.notes) == ([], [])


def test_a_request_without_a_label_leaves_no_trace(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT)[:2])
    scheduler.add(make_request("r", PROMPT))
    steps = [scheduler.step({"r": 1}) for _ in range(3)]
    scheduler.finish("r")
    steps.append(scheduler.side.plan(make_output()))
    assert [(step.notes, step.prove, step.forget) for step in steps] == [([], [], [])] * 4


def test_a_request_that_ends_unproven_is_forgotten_by_the_worker(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT)[:2])
    scheduler.add(make_request("r", PROMPT, {"label": "x"}))
    scheduler.step({"r": 1})
    scheduler.finish("r")
    assert scheduler.side.plan(make_output()).forget == ["r"]
    assert scheduler.side.plan(make_output()).idle


def test_nothing_is_kept_of_finished_requests(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT)[:2])
    for number in range(20):
        scheduler.add(
            make_request(f"r{number}", PROMPT, {"arm": ARMS[number % 4], "label": "x", "namespace": f"n{number % 2 or ''}"})
        )
        scheduler.step({f"r{number}": 5})
        if number % 3 == 0:
            scheduler.preempt(f"r{number}")
        scheduler.finish(f"r{number}")
    scheduler.side.finished(make_request("never seen", PROMPT))
    scheduler.side.plan(make_output())
    assert tracked_ids(scheduler) == []
    assert scheduler.side._forget == []


def test_a_request_that_ends_while_it_waits_is_not_kept(store: DictStore, scheduler: Scheduler) -> None:
    request = make_request("r", PROMPT)
    scheduler.side.matched_tokens(request, 0)
    scheduler.side.finished(request)
    assert tracked_ids(scheduler) == []


def test_steps_about_requests_that_nobody_looked_up_are_idle(scheduler: Scheduler) -> None:
    """As after a restart of the scheduler, or for requests that vLLM keeps from its connectors."""
    scheduler.side.allocated(make_request("ghost", PROMPT), 8)
    output = make_output(cached=[("ghost", ([1, 2],), 8)], scheduled={"ghost": 3})
    assert scheduler.side.plan(output).idle
