"""A workload without its tokens: lengths, hits and arrivals, as columns, so that a trace of millions can be looked at."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = NDArray[np.int64]
"""One number per request."""

Row = tuple[int, int, int, int, float]
"""``prompt_tokens``, ``prefix_tokens``, ``output_tokens``, ``recorded_tokens`` and ``arrival_s`` of a request."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """One entry per request, in sending order.

    ``prompt_tokens``: as sent. ``prefix_tokens``: what the workload says the store should hold of it.
    ``output_tokens``: asked for; ``recorded_tokens``: what the source says was generated, -1 where it doesn't.
    ``arrival_s``: 0 throughout where there is no clock. ``block_tokens``: of a trace's blocks, as sent; 0 without.
    ``begins``: the time of the trace's first request, as the trace writes it; empty without a trace. ``start_s``: what
    ``arrival_s`` counts from, in seconds since that request.
    """

    prompt_tokens: Columns
    prefix_tokens: Columns
    output_tokens: Columns
    recorded_tokens: Columns
    arrival_s: NDArray[np.float64]
    block_tokens: int = 0
    notes: tuple[str, ...] = ()
    begins: str = ""
    start_s: float = 0.0


def columns(rows: Iterable[Row]) -> tuple[Columns, Columns, Columns, Columns, NDArray[np.float64]]:
    """``rows`` as columns; holds 40 bytes a row and no more."""
    kept: list[array[Any]] = [array(kind) for kind in "qqqqd"]
    appends = [column.append for column in kept]
    for row in rows:
        for append, value in zip(appends, row, strict=True):
            append(value)
    a, b, c, d = (np.array(column, dtype=np.int64) for column in kept[:4])
    return a, b, c, d, np.array(kept[4], dtype=np.float64)
