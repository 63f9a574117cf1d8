"""How many neighbouring layers one read of a chunk fetches: as it was set, or chosen from what was seen of the store."""

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from harness.core.errors import UsageError
from harness.core.recurrence import Link, Step, best_groups, sizes_of

AUTO = "auto"

KEPT = 32
"""Calls of one size that the estimate is made from: the newest."""


def check_groups(text: str) -> str:
    """``text`` where some model could have such groups. Raises ValueError."""
    if text and text != AUTO:
        try:
            sizes_of(text)
        except UsageError as error:
            raise ValueError(str(error)) from None
    return text


def doubling(layers: int) -> tuple[int, ...]:
    """1 + 2 + 4 + ...: before anything is known, a small first group and sizes different enough to tell trip from bandwidth."""
    sizes: list[int] = []
    while (left := layers - sum(sizes)) > 0:
        sizes.append(min(2 ** len(sizes), left))
    return tuple(sizes)


class Chooser:
    """Groups for one load after the other, from the round trip, the bandwidth and the compute that the last ones showed."""

    def __init__(self, layers: int, layer_bytes: int, readers: int, depth: int, batch: int) -> None:
        self._layers, self._layer_bytes = layers, layer_bytes
        self._readers, self._depth, self._batch = readers, depth, batch
        self._seen: dict[int, deque[float]] = {}
        self._compute_s = 0.0
        self._chosen: dict[tuple[int, ...], tuple[int, ...]] = {}

    def saw(self, calls: Iterable[tuple[int, float]], compute_s: float) -> None:
        """The calls of a load, bytes and seconds of each, and the seconds of the forward without its waits."""
        for size, seconds in calls:
            self._seen.setdefault(size, deque(maxlen=KEPT)).append(seconds)
        self._compute_s = compute_s if not self._compute_s else 0.7 * self._compute_s + 0.3 * compute_s

    def link(self) -> Link | None:
        """Round trip and bandwidth of one stream while the others are busy; None before two sizes were seen.

        For each size the median of its times, since single reads stall; a straight line through these.
        """
        if len(self._seen) < 2:
            return None
        medians = [float(np.median(times)) for times in self._seen.values()]
        slope, trip = np.polyfit(np.array(list(self._seen), float), medians, 1)
        if slope <= 0:  # nothing but the round trip
            return Link(max(float(np.mean(medians)), 0.0), np.inf)
        return Link(max(float(trip), 0.0), 1 / float(slope))

    def groups(self, chunks: int) -> Sequence[int]:
        """For a load of so many chunks."""
        link = self.link()
        if link is None:
            return doubling(self._layers)
        # Estimates to about a tenth: a choice is then made once and not for every load.
        rate = _coarse(link.stream_bytes_per_s) if np.isfinite(link.stream_bytes_per_s) else -1
        at = (chunks, _coarse(link.latency_s), rate, _coarse(self._compute_s))
        if at not in self._chosen:
            step = Step(chunks, self._layers, self._layer_bytes, self._compute_s)
            self._chosen[at] = best_groups(link, step, self._readers, self._depth, self._batch)
        return self._chosen[at]


def _coarse(value: float) -> int:
    return round(7 * float(np.log2(max(value, 1e-6))))
