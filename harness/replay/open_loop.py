"""Open loop: each request is sent at its planned time, whatever the server does."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence


async def open_loop(times_s: Sequence[float], send: Callable[[int, float], Awaitable[None]]) -> None:
    """Call ``send(position, planned)`` at ``times_s[position]`` seconds from now, and wait until all have finished.

    ``times_s`` does not fall. ``planned`` is on ``time.perf_counter``'s clock: how much later the request really
    leaves is the lag. An exception in a ``send`` ends it, and is raised as it is; the others are cancelled.
    """
    begin = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for position, at in enumerate(times_s):
                # Also where it is late already: what is under way gets its turn before the next is sent.
                await asyncio.sleep(max(begin + at - time.perf_counter(), 0))
                tasks.append(group.create_task(_awaited(send(position, begin + at))))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    for done in tasks:
        done.result()  # one that was cancelled from inside ends without a word


async def _awaited(sending: Awaitable[None]) -> None:
    await sending
