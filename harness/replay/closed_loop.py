"""Closed loop: a fixed number of requests under way; the next is sent when one has finished."""

import asyncio
from collections.abc import Awaitable, Callable


async def closed_loop(count: int, concurrency: int, send: Callable[[int], Awaitable[None]]) -> None:
    """Call ``send(0)`` to ``send(count - 1)`` in order, ``concurrency`` of them under way.

    An exception in a ``send`` ends it, and is raised as it is; the others under way are cancelled.
    """
    positions = iter(range(count))

    async def client() -> None:
        for position in positions:
            await send(position)

    try:
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(client()) for _ in range(min(concurrency, count))]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    for done in clients:
        done.result()  # a client that was cancelled from inside ends its group without a word
