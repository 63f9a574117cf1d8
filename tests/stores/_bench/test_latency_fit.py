"""Latency and bandwidth from time over size, against numbers that are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stores._bench import fit_link

SIZES = (4096, 65536, 1 << 20, 8 << 20)


@given(st.floats(1e-6, 0.1), st.floats(1e6, 1e11))
def test_a_line_is_found_as_it_is(latency_s: float, rate: float) -> None:
    fit = fit_link({size: [latency_s + size / rate] * 6 for size in SIZES})
    assert fit is not None
    assert fit.latency_s.value == pytest.approx(latency_s, rel=1e-6)
    if SIZES[-1] / rate > 1e-6 * latency_s:  # else the bytes are lost in rounding
        assert fit.bytes_per_s.value == pytest.approx(rate, rel=1e-6)
    assert fit.off < 1e-6


def test_the_interval_holds_what_noise_hides() -> None:
    rng = np.random.default_rng(1)
    times = {size: list((0.002 + size / 300e6) * np.exp(0.05 * rng.standard_normal(15))) for size in SIZES}
    fit = fit_link(times)
    assert fit is not None
    assert fit.latency_s.low < 0.002 < fit.latency_s.high
    assert fit.bytes_per_s.low < 300e6 < fit.bytes_per_s.high
    assert fit.latency_s.high / fit.latency_s.low < 1.1


def test_it_is_written_as_shaped_and_predict_take_it() -> None:
    fit = fit_link({size: [0.002 + size / 300e6] * 6 for size in SIZES})
    assert fit is not None
    assert fit.options() == "latency_ms=2&stream_mb_s=300"


def test_large_numbers_are_written_without_an_exponent() -> None:
    """A ``+`` in a URL is a space."""
    fit = fit_link({size: [2e-6 + size / 123_456e6] * 6 for size in SIZES})
    assert fit is not None
    assert fit.options() == "latency_ms=0.002&stream_mb_s=123500"


def test_no_latency_is_below_nothing() -> None:
    """Large objects that cost more than in proportion would give a line that begins below 0."""
    fit = fit_link({4096: [1e-6] * 6, 1 << 20: [1e-3] * 6})
    assert fit is not None
    assert fit.latency_s.value == fit.latency_s.low == 0
    assert fit.off > 0.5


def test_bytes_that_cost_nothing_are_no_bound() -> None:
    fit = fit_link({4096: [2e-3] * 6, 1 << 20: [1e-3] * 6})
    assert fit is not None
    assert math.isinf(fit.bytes_per_s.value)
    assert fit.options().endswith("&stream_mb_s=0")


def test_one_size_is_no_line() -> None:
    assert fit_link({4096: [1e-3] * 6}) is None
