"""What one load took, noted while it goes on: its reads, the waits of the forward, and the forward itself."""

import time
from collections.abc import Sequence
from statistics import median_low

from harness.core.chunks import LoadRequest
from harness.engines.base import Calls, Seen


class Watch:
    """One load after the other. ``call`` comes from the readers' threads; ``list.append`` is atomic."""

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.seen: Seen | None = None
        self._calls: list[tuple[int, float, float]] = []
        self._begun_s = 0.0
        self._of: tuple[int, str, tuple[int, ...]] = (0, "", ())

    def begin(self, batch: Sequence[LoadRequest], groups: tuple[int, ...]) -> None:
        """A load of ``batch`` in ``groups`` begins."""
        self._of = sum(len(request.chunks) for request in batch), how_of(batch), groups
        self._calls, self.waited_s, self.seen = [], 0.0, None
        self._begun_s = time.perf_counter()

    def call(self, size: int, start_s: float, end_s: float) -> None:
        """A read of ``size`` bytes."""
        self._calls.append((size, start_s, end_s))

    def end(self, now_s: float, timed: bool) -> None:
        """The forward is over. ``timed``: whether it really is, or was only queued on a device."""
        chunks, how, groups = self._of
        if not self._calls:
            return
        by_size: dict[int, list[float]] = {}
        for size, start, end in self._calls:
            by_size.setdefault(size, []).append(end - start)
        first, last = min(start for _, start, _ in self._calls), max(end for _, _, end in self._calls)
        self.seen = Seen(
            chunks,
            last - self._begun_s,
            now_s - self._begun_s - self.waited_s,
            waited_s=self.waited_s,
            how=how,
            groups=groups,
            calls=tuple(Calls(size, len(times), median_low(times)) for size, times in sorted(by_size.items())),
            at_once=sum(map(sum, by_size.values())) / max(last - first, 1e-9),
            timed=timed,
        )


def how_of(batch: Sequence[LoadRequest]) -> str:
    """How the requests of a step are loaded: as was chosen for the last, when the others were known."""
    return next((request.how for request in reversed(batch) if request.how), "")
