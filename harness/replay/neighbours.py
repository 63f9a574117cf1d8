"""Who else is being served while a prompt loads: requests that only decode, and short probes.

A load that blocks the step holds up every request of the batch. The prompt's own TTFT does not show that; the gaps
between its neighbours' tokens do.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from harness.replay.outcome import Outcome

Kind = Literal["decode", "probe"]
Send = Callable[[Kind, int, Callable[[float], None]], Awaitable[Outcome]]
"""``send(kind, number, heard)`` serves one request; ``heard(at)`` is called at each of its outputs."""


@dataclass(frozen=True, slots=True)
class Heard:
    """``decode``: a gap of ``value_s`` between two tokens that ended at ``at_s``. ``probe``: one sent at ``at_s``, with
    its TTFT. ``stream``: the number of the decoding request, or of the probe. ``at_s`` is ``time.perf_counter``'s."""

    kind: Kind
    stream: int
    at_s: float
    value_s: float


class Neighbours:
    """``streams`` requests that decode without end, and a probe every ``probe_every_s`` seconds (0: none)."""

    def __init__(self, send: Send, streams: int, probe_every_s: float) -> None:
        self._send = send
        self._streams = streams
        self._probe_every_s = probe_every_s
        self.heard: list[Heard] = []
        self.errors: list[str] = []

    @contextlib.asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        """Serve neighbours while the body runs; it begins when every stream decodes, and what was heard before is dropped."""
        decoding = [asyncio.Event() for _ in range(self._streams)]
        tasks = [asyncio.create_task(self._decode(stream, event)) for stream, event in enumerate(decoding)]
        try:
            await self._all_decode(tasks, decoding)
            self.heard.clear()
            if self._probe_every_s:
                tasks.append(asyncio.create_task(self._probe()))
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _all_decode(self, tasks: list["asyncio.Task[None]"], decoding: list[asyncio.Event]) -> None:
        """Wait until every stream decodes or has ended, which it does by an error only."""
        for task, event in zip(tasks, decoding, strict=True):
            started = asyncio.create_task(event.wait())
            await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
            started.cancel()

    async def _decode(self, stream: int, decoding: asyncio.Event) -> None:
        """One request after the other; each gap between two tokens of the same request is heard."""
        while not self.errors:
            last: float | None = None

            def heard(at: float) -> None:
                nonlocal last
                if last is not None:
                    self.heard.append(Heard("decode", stream, at, at - last))
                    decoding.set()
                last = at

            self._note(await self._send("decode", stream, heard))

    async def _probe(self) -> None:
        number = 0
        while not self.errors:
            begin = time.perf_counter()
            outcome = await self._send("probe", number, lambda at: None)
            self._note(outcome)
            if outcome.first_s is not None:
                self.heard.append(Heard("probe", number, outcome.sent_s, outcome.first_s - outcome.sent_s))
            number += 1
            await asyncio.sleep(max(begin + self._probe_every_s - time.perf_counter(), 0))

    def _note(self, outcome: Outcome) -> None:
        if outcome.error:
            self.errors.append(outcome.error)
