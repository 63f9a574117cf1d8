"""From the long table to estimates: each cell over its rounds, and two cells against each other round by round."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.stats import interval
from harness.stores._bench.cells import Cell

if TYPE_CHECKING:
    from harness.stores._bench.measuring import Row


@dataclass(frozen=True, slots=True)
class Estimate:
    """The Hodges-Lehmann median over rounds and its 95% interval (docs/decisions/0003-interval.md)."""

    value: float
    low: float
    high: float


def estimated(positive: Sequence[float]) -> Estimate:
    """Of times, rates or ratios: on a logarithmic scale, since a machine's noise multiplies."""
    found = interval(np.log(np.asarray(positive, dtype=np.float64)))
    low, value, high = np.exp([found.low, found.value, found.high])
    return Estimate(float(value), float(low), float(high))


class Summary:
    """The rounds of a measurement; all of them hold the same cells."""

    def __init__(self, rounds: Sequence[Sequence["Row"]]) -> None:
        self.n = len(rounds)
        self._rows: dict[Cell, list[Row]] = {}
        for rows in rounds:
            for row in rows:
                self._rows.setdefault(cell_of(row), []).append(row)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, in no order."""
        return tuple(self._rows)

    def of(self, action: str) -> list[Cell]:
        """The cells of an action, by size, callers and batch."""
        found = [cell for cell in self._rows if cell.action == action]
        return sorted(found, key=lambda cell: (cell.size, cell.callers, cell.in_flight, cell.batch))

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._rows

    def call_s(self, cell: Cell) -> Estimate:
        """Seconds of a call: the median call of each round, over rounds."""
        return estimated([float(row["call_p50_s"]) for row in self._rows[cell]])

    def key_s(self, cell: Cell) -> Estimate:
        """Seconds an object, of all callers together: with one caller, the mean call."""
        return estimated(self.seconds_a_key(cell))

    def bytes_per_s(self, cell: Cell) -> Estimate:
        """Bytes a second of all callers together."""
        return estimated([float(row["bytes"]) / float(row["seconds"]) for row in self._rows[cell]])

    def ratio(self, cell: Cell, base: Cell) -> Estimate:
        """Keys a second of ``cell`` over those of ``base``, paired by round."""
        pairs = zip(self._rows[cell], self._rows[base], strict=True)
        return estimated(
            [float(one["keys"]) / float(one["seconds"]) * float(other["seconds"]) / float(other["keys"]) for one, other in pairs]
        )

    def seconds_a_key(self, cell: Cell) -> list[float]:
        """Round by round."""
        return [float(row["seconds"]) / float(row["keys"]) for row in self._rows[cell]]


def cell_of(row: "Row") -> Cell:
    """The cell that a row measured."""
    return Cell(row["action"], *(int(row[name]) for name in ("size_bytes", "callers", "in_flight", "batch")))  # type: ignore[arg-type]
