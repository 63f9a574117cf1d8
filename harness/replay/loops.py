"""When requests are sent: so many at once (a closed loop), or each at its time, whatever the server does (an open loop)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence


async def closed_loop(count: int, concurrency: int, send: Callable[[int], Awaitable[None]]) -> None:
    """Call ``send(0)`` to ``send(count - 1)`` in order, ``concurrency`` of them under way; the next when one has finished.

    An exception in a ``send`` ends it, and is raised as it is; the others under way are cancelled.
    """
    positions = iter(range(count))

    async def client() -> None:
        for position in positions:
            await send(position)

    async with _together() as begin:
        for _ in range(min(concurrency, count)):
            begin(client())


async def open_loop(times_s: Sequence[float], send: Callable[[int, float], Awaitable[None]]) -> None:
    """Call ``send(position, planned)`` at ``times_s[position]`` seconds from now, and wait until all have finished.

    ``times_s`` does not fall. ``planned`` is on ``time.perf_counter``'s clock: how much later the request really
    leaves is the lag. An exception in a ``send`` ends it, and is raised as it is; the others are cancelled.
    """
    start = time.perf_counter()
    async with _together() as begin:
        for position, at in enumerate(times_s):
            # Also if it is late already: what is under way gets its turn before the next is sent.
            await asyncio.sleep(max(start + at - time.perf_counter(), 0))
            begin(send(position, start + at))


@contextlib.asynccontextmanager
async def _together() -> AsyncIterator[Callable[[Awaitable[None]], None]]:
    """Gives what begins a task; at the end all have finished, or one has failed, whose exception is raised as it is."""
    tasks = []

    async def awaited(work: Awaitable[None]) -> None:
        await work

    try:
        async with asyncio.TaskGroup() as group:
            yield lambda work: tasks.append(group.create_task(awaited(work)))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    for task in tasks:
        task.result()  # one that was cancelled from inside ends its group without a word
