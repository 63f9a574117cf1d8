"""How many neighbouring layers one read of a chunk fetches: as it was set, or chosen from what was seen of the store."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.core.errors import UsageError
from harness.core.options import split_spec
from harness.core.recurrence import Link, Step, best_groups, groups_of, sizes_of

AUTO = "auto"


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


def groups_by(how: str, layers: int) -> tuple[int, ...]:
    """Those of an arm as ``Choice.how`` writes it; all layers in one group for a pool, ``doubling`` where it says nothing."""
    name, options = split_spec(how) if how else ("", {})
    if name == "chunkwise":
        return (layers,)
    return groups_of(options["groups"], layers) if "groups" in options else doubling(layers)


def chosen_groups(link: Link | None, step: Step, readers: int, depth: int, batch: int) -> Sequence[int]:
    """The best for a link and a step as they were seen; those by which one learns it where there is no link.

    By estimates to about a tenth, so that the search is made once and not for every load.
    """
    if link is None:
        return doubling(step.layers)
    rates = tuple(map(_coarse, (link.latency_s, link.stream_bytes_per_s, link.total_bytes_per_s or np.inf, link.busy_s)))
    times = tuple(map(_coarse, (step.compute_s, step.call_s)))
    return _best(rates, times, (step.chunks, step.layers, step.layer_bytes), (readers, depth, batch))


@lru_cache(maxsize=4096)
def _best(
    rates: tuple[float, ...], times: tuple[float, ...], shape: tuple[int, int, int], streams: tuple[int, int, int]
) -> Sequence[int]:
    compute_s, call_s = times
    return best_groups(Link(*rates), Step(*shape, compute_s, call_s=call_s), *streams)


def _coarse(value: float) -> float:
    """To the next seventh of an octave; nothing below a microsecond, or above a terabyte a second."""
    return float(2 ** (round(7 * np.log2(min(value, 1e12))) / 7)) if value > 1e-6 else 0.0
