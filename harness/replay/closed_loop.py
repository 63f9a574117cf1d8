"""Closed loop: a fixed number of requests under way; the next is sent when one has finished."""

import asyncio
from collections.abc import Awaitable, Callable


async def closed_loop(count: int, concurrency: int, send: Callable[[int], Awaitable[None]]) -> None:
    """Call ``send(0)`` to ``send(count - 1)`` in order, ``concurrency`` of them under way. An exception ends it."""
    positions = iter(range(count))

    async def client() -> None:
        for position in positions:
            await send(position)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, count)):
            group.create_task(client())
