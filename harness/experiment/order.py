"""In which order runs take place. Pure.

Neighbouring rounds go in opposite directions (A B C, C B A, A B C, ...), so that a slow drift of the
machine falls on every arm alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One replay of the workload by one arm. ``pair`` is the round."""

    run: int
    pair: int
    arm: str


def rounds_of(count: int, rounds: int) -> frozenset[int]:
    """``count`` of ``rounds`` rounds, evenly spread, the first and the last among them where count > 1."""
    if count >= rounds:
        return frozenset(range(rounds))
    if count == 1:
        return frozenset({0})
    return frozenset(round(i * (rounds - 1) / (count - 1)) for i in range(count))


def schedule(arms: Sequence[str], rounds: int, sparse: Sequence[str] = (), sparse_rounds: int = 2) -> list[PlannedRun]:
    """All runs in time order; the ``sparse`` arms take part in ``sparse_rounds`` rounds only."""
    chosen = rounds_of(sparse_rounds, rounds)
    runs: list[PlannedRun] = []
    for pair in range(rounds):
        taking_part = [arm for arm in arms if arm not in sparse or pair in chosen]
        for arm in taking_part if pair % 2 == 0 else reversed(taking_part):
            runs.append(PlannedRun(len(runs), pair, arm))
    return runs
