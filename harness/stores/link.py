"""A network link that several transfers share. Pure: it knows only the times that it is told.

Each transfer gets ``min(stream, total / transfers under way)`` bytes a second: the max-min fair share
of equal flows, which is what streams over one network approach. Computed as generalized processor
sharing (Parekh and Gallager, 1993): with V the bytes that a transfer would have got had it been under
way all along, a transfer of n bytes that begins at V0 ends when V = V0 + n.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Transfer:
    """``size`` bytes that begin to flow at ``start_s``; ``end_s`` once they are known to be through."""

    start_s: float
    size: int
    end_s: float | None = None


_Heap = list[tuple[float, int, Transfer]]


@dataclass(slots=True)
class Link:
    """``stream`` and ``total`` in bytes a second, ``math.inf`` for no bound. Not thread-safe."""

    stream: float
    total: float
    _now: float = -math.inf
    _virtual: float = 0.0
    _waiting: _Heap = field(default_factory=list)  # by start_s
    _flowing: _Heap = field(default_factory=list)  # by the V at which they end
    _count: int = 0

    def send(self, now: float, start_s: float, size: int) -> Transfer:
        """Announce a transfer that begins at ``start_s``, or at ``now`` where that is later."""
        if math.isinf(self.total):  # then transfers don't touch one another
            return Transfer(start_s, size, start_s + size / self.stream)
        self._advance(now)
        transfer = Transfer(max(start_s, self._now), size)
        self._count += 1
        heapq.heappush(self._waiting, (transfer.start_s, self._count, transfer))
        return transfer

    def end(self, transfer: Transfer, now: float) -> float:
        """When ``transfer`` ends if no other is announced; final once that is not after ``now``."""
        if transfer.end_s is None:
            self._advance(now)
        if transfer.end_s is not None:
            return transfer.end_s
        future = Link(self.stream, self.total, self._now, self._virtual, self._waiting[:], self._flowing[:])
        return next(end_s for ended, end_s in future._run(math.inf) if ended is transfer)

    def _advance(self, now: float) -> None:
        for ended, end_s in self._run(now):
            ended.end_s = end_s

    def _run(self, until: float) -> Iterator[tuple[Transfer, float]]:
        """Let time pass, and tell which transfers end and when. Times that go backwards count as no time."""
        until = max(until, self._now)
        while True:
            begins = self._waiting[0][0] if self._waiting else math.inf
            ends = self._now + (self._flowing[0][0] - self._virtual) / self._rate() if self._flowing else math.inf
            if min(begins, ends) > until or begins == ends == math.inf:
                break
            if ends <= begins:
                self._virtual, _, transfer = heapq.heappop(self._flowing)
                self._now = ends
                yield transfer, ends
            else:
                self._pass_time(begins)
                _, number, transfer = heapq.heappop(self._waiting)
                heapq.heappush(self._flowing, (self._virtual + transfer.size, number, transfer))
        self._pass_time(until)

    def _pass_time(self, until: float) -> None:
        if self._flowing:
            self._virtual += (until - self._now) * self._rate()
        self._now = until

    def _rate(self) -> float:
        return min(self.stream, self.total / len(self._flowing))
