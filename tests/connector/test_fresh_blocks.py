"""Blocks that a step writes: those that requests get in it, but for what vLLM's own prefix cache has filled."""

import pytest
from standins import ARMS, BLOCK, CHUNK, DictStore, Scheduler, keys_of, make_request, make_side, put

PROMPT = list(range(100, 100 + 4 * CHUNK + 3))


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def scheduler(store: DictStore) -> Scheduler:
    return Scheduler(make_side(store))


def test_a_new_request_writes_its_blocks_and_later_those_that_it_gets(scheduler: Scheduler) -> None:
    live = scheduler.add(make_request("r", PROMPT))
    first = scheduler.step({"r": 2 * CHUNK})
    assert first.fresh == live.blocks
    begun = len(live.blocks)
    assert scheduler.step({"r": len(PROMPT) - 2 * CHUNK}).fresh == live.blocks[begun:]
    assert scheduler.step({"r": 1}).fresh == []


def test_what_is_loaded_is_written(scheduler: Scheduler, store: DictStore) -> None:
    put(store, keys_of(PROMPT))
    live = scheduler.add(make_request("r", PROMPT, {"arm": ARMS[0]}))
    step = scheduler.step({"r": len(PROMPT) - 4 * CHUNK})
    assert step.fresh == live.blocks
    assert set(step.loads[0].request.blocks) <= set(step.fresh)


@pytest.mark.parametrize("stored", [0, 4])
@pytest.mark.parametrize("local", [1, 2, 3])
def test_what_vllm_shares_stays_as_it_is(scheduler: Scheduler, store: DictStore, local: int, stored: int) -> None:
    """Or a save of a prefix would be given up when a second request comes with it."""
    put(store, keys_of(PROMPT)[:stored])
    shared = [150 + i for i in range(local)]
    live = scheduler.add(make_request("r", PROMPT, {"arm": ARMS[0]}))
    step = scheduler.step({"r": CHUNK}, local={"r": shared})
    assert step.fresh == live.blocks[local:]
    assert not set(step.fresh) & set(shared)


def test_a_request_without_the_store_writes_too(scheduler: Scheduler) -> None:
    live = scheduler.add(make_request("r", PROMPT, {"save": False, "arm": "floor"}))
    scheduler.side._tracked.clear()
    assert scheduler.step({"r": CHUNK + BLOCK}).fresh == live.blocks


def test_after_preemption_all_blocks_are_new(scheduler: Scheduler) -> None:
    live = scheduler.add(make_request("r", PROMPT))
    scheduler.step({"r": 2 * CHUNK})
    scheduler.preempt("r")
    assert scheduler.step({"r": 2 * CHUNK}).fresh == live.blocks
