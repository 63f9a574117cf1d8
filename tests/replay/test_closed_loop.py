"""A closed loop: in order, never more under way than allowed, and an error ends it as it is."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.replay.loops import closed_loop


class Clients:
    """Notes what is sent, and how many are under way."""

    def __init__(self, turns: list[int]) -> None:
        self.turns = turns
        self.sent: list[int] = []
        self.finished: list[int] = []
        self.cancelled: list[int] = []
        self.under_way = 0
        self.most = 0

    async def send(self, position: int) -> None:
        self.sent.append(position)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(self.turns[position % len(self.turns)]):
                await asyncio.sleep(0)
            self.finished.append(position)
        except asyncio.CancelledError:
            self.cancelled.append(position)
            raise
        finally:
            self.under_way -= 1


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 8), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_everything_is_sent_once_in_order_and_no_more_at_once_than_allowed(
    count: int, concurrency: int, turns: list[int]
) -> None:
    clients = Clients(turns)
    asyncio.run(closed_loop(count, concurrency, clients.send))
    assert clients.sent == list(range(count))
    assert sorted(clients.finished) == list(range(count))
    assert clients.most == min(count, concurrency)
    assert clients.under_way == 0


async def test_the_next_is_sent_when_one_has_finished_not_when_all_have() -> None:
    clients = Clients([9, 1, 1, 1])
    await closed_loop(4, 2, clients.send)
    assert clients.finished == [1, 2, 3, 0]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_error_is_raised_as_it_is_and_the_others_are_cancelled(concurrency: int) -> None:
    clients = Clients([5])

    async def send(position: int) -> None:
        if position == 2:
            await asyncio.sleep(0)
            raise LookupError("no more")
        await clients.send(position)

    with pytest.raises(LookupError, match=r"^no more$"):
        await closed_loop(10, concurrency, send)
    assert clients.cancelled == ([] if concurrency == 1 else [0, 1])
    assert max(clients.sent) == 1
    assert clients.under_way == 0


async def test_a_client_cancelled_from_inside_does_not_pass_for_done() -> None:
    async def send(position: int) -> None:
        if position == 1:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await closed_loop(4, 2, send)


async def test_cancelling_the_loop_cancels_what_is_under_way() -> None:
    clients = Clients([1000])
    task = asyncio.create_task(closed_loop(4, 2, clients.send))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clients.cancelled == [0, 1]
    assert clients.sent == [0, 1]
