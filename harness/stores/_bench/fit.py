"""Latency and bandwidth of one stream: a line through time over size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from harness.stats import interval
from harness.stores._bench.summary import Estimate


@dataclass(frozen=True, slots=True)
class LinkFit:
    """``t(size) = latency + size / bandwidth`` of calls that read one object, one after the other.

    ``latency_s`` in seconds; ``bytes_per_s`` has infinite values where more bytes took no more time. ``off`` is the
    largest distance of a size's time from the line, as a share of that time: a line says little where it is large.
    """

    latency_s: Estimate
    bytes_per_s: Estimate
    off: float
    off_size: int

    def options(self) -> str:
        """As ``shaped+`` understands it."""
        rate = self.bytes_per_s.value
        return f"latency_ms={plain(self.latency_s.value * 1e3)}&stream_mbps={plain(rate / 1e6) if np.isfinite(rate) else 0}"


def plain(value: float) -> str:
    """Four digits without an exponent, whose ``+`` would be a space in a URL."""
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


def fit_link(times: Mapping[int, Sequence[float]]) -> LinkFit | None:
    """From size in bytes -> seconds of a call in each round; all sizes have the same rounds. None for fewer than two sizes.

    Least squares of the relative errors, neither number below 0 (Lawson and Hanson's algorithm), once a round: absolute
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
