"""Harrell-Davis against scipy's, and the names of metrics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.mstats import hdquantiles

from harness.core.errors import UsageError
from harness.stats import harrell_davis, metric_of, parse_metric, requests_needed

samples = st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=2, max_size=60)


@settings(deadline=None)
@given(samples, st.floats(0.01, 0.99))
def test_same_as_scipy(values: list[float], q: float) -> None:
    assert harrell_davis(values, q) == pytest.approx(float(hdquantiles(values, [q])[0]), abs=1e-6)


@settings(deadline=None)
@given(samples, st.floats(0.01, 0.98), st.floats(0.1, 10), st.floats(-5, 5))
def test_bounded_growing_and_equivariant(values: list[float], q: float, scale: float, shift: float) -> None:
    found = harrell_davis(values, q)
    assert min(values) - 1e-6 <= found <= max(values) + 1e-6
    assert harrell_davis(values, q + 0.01) >= found - 1e-6
    assert harrell_davis(scale * np.array(values) + shift, q) == pytest.approx(scale * found + shift, abs=1e-6)


def test_works_along_the_last_axis() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 25))
    found = harrell_davis(values, 0.9)
    assert found.shape == (3, 4)
    assert found[1, 2] == pytest.approx(harrell_davis(values[1, 2], 0.9))
    assert metric_of(values, "mean")[2, 0] == pytest.approx(values[2, 0].mean())


def test_one_value_is_every_quantile() -> None:
    assert harrell_davis([3.0], 0.99) == pytest.approx(3.0)


def test_names() -> None:
    assert parse_metric("mean") is None
    assert parse_metric("p99.9") == pytest.approx(0.999)
    assert [requests_needed(metric) for metric in ("mean", "p50", "p90", "p95", "p99")] == [1, 10, 50, 100, 500]


@pytest.mark.parametrize("name", ["p100", "p0", "median", "P50", "p", "p-5", ""])
def test_unknown_names_list_the_known(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown metric '.*'; known: mean, p50, p90, p95, p99"):
        parse_metric(name)
