"""What one load took, noted while it goes on: its reads, the waits of the forward, and the forward itself."""

import time
from collections.abc import Sequence

import numpy as np

from harness.core.chunks import LoadRequest
from harness.engines.base import Calls, Seen
from harness.engines.costs import SIZES


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
        self.seen = Seen(
            chunks,
            max(end for _, _, end in self._calls) - self._begun_s,
            now_s - self._begun_s - self.waited_s,
            waited_s=self.waited_s,
            how=how,
            groups=groups,
            calls=by_size(self._calls),
            timed=timed,
        )


def by_size(calls: Sequence[tuple[int, float, float]]) -> tuple[Calls, ...]:
    """Reads as (bytes, start, end), those of nearly the same size together."""
    sizes, starts, ends = np.array(calls, float).T
    times = np.sort(np.concatenate([starts, ends]))
    under_way = np.searchsorted(np.sort(starts), times, "right") - np.searchsorted(np.sort(ends), times, "right")
    # Reads times seconds up to each of these times; between two of them its rise over a read's length is their mean number.
    passed = np.concatenate([[0.0], np.cumsum(under_way[:-1] * np.diff(times))])
    lengths = np.maximum(ends - starts, 1e-9)
    beside = np.maximum((np.interp(ends, times, passed) - np.interp(starts, times, passed)) / lengths, 1.0)
    alike = np.round(np.log2(sizes) * SIZES)  # a chunk's header in its first read makes no other size of it
    return tuple(
        Calls(int(np.median(sizes[one])), int(one.sum()), float(np.median(lengths[one])), float(np.median(beside[one])))
        for one in (alike == size for size in np.unique(alike))
    )


def how_of(batch: Sequence[LoadRequest]) -> str:
    """How the requests of a step are loaded: as was chosen for the last, when the others were known."""
    return next((request.how for request in reversed(batch) if request.how), "")
