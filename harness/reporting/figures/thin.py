"""No more points than can be distinguished, and a sentence that says so. What is computed from them is not thinned."""

from typing import Any

import numpy as np

Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

MOST = 1500
"""Points of one figure."""
ENDS = 50
"""This many of the smallest and of the largest values always stay in a thinned curve."""


def note(drawn: int, total: int, what: str) -> str:
    """A sentence for the reader, empty if all are drawn."""
    if drawn >= total:
        return ""
    return f"Thinned: {drawn:,} of {total:,} {what} are drawn; every number is computed from all of them."


def curve(length: int, most: int) -> Indices:
    """Places of a sorted series of ``length`` to draw: all at both ends, evenly many between."""
    if length <= most:
        return np.arange(length)
    between = np.linspace(0, length - 1, max(most - 2 * ENDS, 2)).round().astype(np.int64)
    return np.asarray(
        np.unique(np.concatenate([np.arange(min(ENDS, length)), between, np.arange(max(length - ENDS, 0), length)]))
    )


def cloud(values: "np.ndarray[Any, Any]", groups: "np.ndarray[Any, Any]", most: int) -> Indices:
    """Places of ``values`` to draw: the smallest and the largest of each group, and a fixed random choice of the others.

    The outliers stay, since they are what a reader looks for. ``most`` may be exceeded by two per group.
    """
    if len(values) <= most:
        return np.arange(len(values))
    order = np.lexsort((values, groups))
    first = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    ends = np.concatenate([order[first], order[np.r_[first[1:], len(order)] - 1]])
    chosen = np.random.default_rng(0).choice(len(values), max(most - len(ends), 0), replace=False)
    return np.asarray(np.unique(np.concatenate([ends, chosen])))
