"""Neighbours decode while the body runs, and what they hear is kept."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from harness.replay.neighbours import Heard, Kind, Neighbours
from harness.replay.outcome import Outcome


class Server:
    """Serves a token each time the loop turns; its clock goes by tokens, so that gaps are known."""

    def __init__(self, tokens: int = 10**6, error: str = "") -> None:
        self.tokens, self.error = tokens, error
        self.clock = itertools.count()
        self.sent: list[tuple[Kind, int]] = []
        self.cancelled = 0

    async def send(self, kind: Kind, number: int, heard: Callable[[float], None]) -> Outcome:
        self.sent.append((kind, number))
        try:
            for _ in range(self.tokens if kind == "decode" else 1):
                await asyncio.sleep(0)
                heard(float(next(self.clock)))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Outcome(1.0, first_s=1.5, error=self.error)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_gaps_are_heard_while_the_body_runs_and_not_before() -> None:
    server = Server()
    neighbours = Neighbours(server.send, streams=1, probe_every_s=0)
    async with neighbours.during():
        assert neighbours.heard == []
        await turns(20)
    assert len(neighbours.heard) > 10
    assert {(one.kind, one.stream, one.value_s) for one in neighbours.heard} == {("decode", 0, 1.0)}
    assert server.cancelled == 1
    count = len(neighbours.heard)
    await turns(20)
    assert len(neighbours.heard) == count


async def test_the_body_begins_when_every_stream_decodes() -> None:
    server = Server()
    heard_by: set[int] = set()

    async def send(kind: Kind, number: int, heard: Callable[[float], None]) -> Outcome:
        if number == 2:
            await turns(50)
        heard_by.add(number)
        return await server.send(kind, number, heard)

    async with Neighbours(send, streams=3, probe_every_s=0).during():
        assert heard_by == {0, 1, 2}


async def test_a_request_that_ends_is_followed_by_another_and_no_gap_lies_between_them() -> None:
    server = Server(tokens=3)
    neighbours = Neighbours(server.send, streams=1, probe_every_s=0)
    async with neighbours.during():
        await turns(40)
    assert len(server.sent) > 5
    assert {one.value_s for one in neighbours.heard} == {1.0}


async def test_probes_are_sent_again_and_again() -> None:
    server = Server()
    neighbours = Neighbours(server.send, streams=0, probe_every_s=1e-4)
    async with neighbours.during():
        while len(neighbours.heard) < 3:
            await asyncio.sleep(1e-4)
    assert neighbours.heard[:2] == [Heard("probe", 0, 1.0, 0.5), Heard("probe", 1, 1.0, 0.5)]


async def test_an_error_is_kept_and_ends_the_neighbour_but_not_the_body() -> None:
    server = Server(tokens=0, error="no room")
    neighbours = Neighbours(server.send, streams=2, probe_every_s=0)
    async with asyncio.timeout(5):
        async with neighbours.during():
            await turns(20)
    assert set(neighbours.errors) == {"no room"}
    assert len(server.sent) <= 2


async def test_nobody_is_no_trouble() -> None:
    neighbours = Neighbours(Server().send, streams=0, probe_every_s=0)
    async with neighbours.during():
        await turns(3)
    assert neighbours.heard == []
    assert neighbours.errors == []


async def test_an_error_of_the_body_stops_the_neighbours_too() -> None:
    server = Server()
    with pytest.raises(ValueError, match="the body"):
        async with Neighbours(server.send, streams=2, probe_every_s=0).during():
            raise ValueError("the body")
    assert server.cancelled == 2
