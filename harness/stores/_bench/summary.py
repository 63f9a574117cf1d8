"""From the long table to estimates: each cell over its rounds, the ratio of two cells, and time as a line over size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from harness.stats import interval
from harness.stores._bench.settings import Cell

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
        """Seconds per object, of all callers together: with one caller, the mean call."""
        return estimated(self.seconds_a_key(cell))

    def bytes_per_s(self, cell: Cell) -> Estimate:
        """Bytes per second of all callers together."""
        return estimated([float(row["bytes"]) / float(row["seconds"]) for row in self._rows[cell]])

    def ratio(self, cell: Cell, base: Cell) -> Estimate:
        """Keys per second of ``cell`` over those of ``base``, paired by round."""
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


@dataclass(frozen=True, slots=True)
class LinkFit:
    """``t(size) = latency + size / bandwidth`` of calls that read one object, one after the other.

    ``latency_s`` in seconds; ``bytes_per_s`` has infinite values if more bytes took no more time. ``off`` is the
    largest distance of a size's time from the line, as a share of that time: a line says little if it is large.
    """

    latency_s: Estimate
    bytes_per_s: Estimate
    off: float
    off_size: int

    def options(self) -> str:
        """As ``shaped+`` understands it."""
        rate = self.bytes_per_s.value
        return f"latency_ms={plain(self.latency_s.value * 1e3)}&stream_mb_s={plain(rate / 1e6) if np.isfinite(rate) else 0}"


def plain(value: float) -> str:
    """Four digits without an exponent, whose ``+`` would be a space in a URL."""
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


def fit_link(times: Mapping[int, Sequence[float]]) -> LinkFit | None:
    """From size in bytes -> seconds of a call in each round; all sizes have the same rounds. None for fewer than two sizes.

    Least squares of the relative errors, neither number below 0 (Lawson and Hanson's algorithm), once per round: absolute
    errors would let the largest size alone decide the latency. The intervals are over rounds.
    """
    sizes = np.array(sorted(times), dtype=np.float64)
    if len(sizes) < 2:
        return None
    rounds = np.array([times[int(size)] for size in sizes]).T
    fits = np.array([_line(sizes, taken) for taken in rounds])
    latency, per_byte = interval(fits[:, 0]), interval(fits[:, 1])
    middle = np.median(rounds, axis=0)
    distance = np.abs((latency.value + sizes * per_byte.value) / middle - 1)
    worst = int(np.argmax(distance))
    return LinkFit(
        Estimate(latency.value, max(latency.low, 0.0), latency.high),
        Estimate(_rate(per_byte.value), _rate(per_byte.high), _rate(per_byte.low)),
        float(distance[worst]),
        int(sizes[worst]),
    )


def _line(
    sizes: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", taken: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"
) -> object:
    # In units of the largest size, so that both columns are of one order.
    scale = sizes.max()
    found, _ = nnls(np.column_stack([1 / taken, sizes / scale / taken]), np.ones(len(sizes)))
    return found / (1, scale)


def _rate(seconds_per_byte: float) -> float:
    return 1 / seconds_per_byte if seconds_per_byte > 0 else float("inf")
