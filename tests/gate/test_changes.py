"""Change points: found where there is one, hardly ever where there is none."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from histories import A, frame, noisy, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import SetupError
from harness.gate.history import LEAST, change_points, changes, series_of
from harness.gate.history.changes import SHORTEST, best_cut


def test_a_step_is_found_at_its_place_with_its_levels() -> None:
    (series,) = series_of(frame(rows(noisy([(0.8, 20), (0.92, 15)]))))
    (change,) = changes(series)
    assert (change.place, change.commit, change.time[:10]) == (20, "c20", "2026-01-21")
    assert (change.n_before, change.n_after) == (20, 15)
    assert change.before == pytest.approx(0.8, rel=0.01) and change.after == pytest.approx(0.92, rel=0.01)


def test_a_small_step_beside_a_large_one_is_found_as_well() -> None:
    values = np.log(noisy([(0.8, 30), (1.6, 15), (1.52, 15)]))
    assert change_points(values) == [30, 45]


def test_noise_of_any_tail_hardly_ever_has_a_change() -> None:
    generator = np.random.default_rng(5)
    alarms = sum(bool(change_points(generator.standard_t(3, 30))) for _ in range(60))
    assert alarms <= 3  # 1% of 60 is 0.6; more than 3 has a chance of 1 in 300


def test_one_bad_verdict_is_no_new_level() -> None:
    values = np.array(noisy([(0.8, 40)]))
    values[[10, 25, 26]] *= 2.0
    assert change_points(np.log(values)) == []


def test_too_few_and_all_the_same() -> None:
    assert change_points([0.0] * (SHORTEST - 1) + [1.0] * SHORTEST) == []
    assert change_points([0.3] * 50) == []
    assert change_points([]) == []
    assert len(change_points([0.0] * 10 + [1.0] * 10)) == 1


@given(st.lists(st.floats(-5, 5), max_size=40), st.integers(0, 3))
@settings(deadline=None, max_examples=25)
def test_places_lie_inside_and_levels_last(values: list[float], seed: int) -> None:
    found = change_points(values, seed=seed)
    edges = [0, *found, len(values)]
    assert found == change_points(values, seed=seed)
    assert all(after - before >= SHORTEST for before, after in pairwise(edges)) or not found
    assert len(values) >= LEAST or not found


@given(st.lists(st.floats(-5, 5), min_size=LEAST, max_size=20))
@settings(deadline=None, max_examples=25)
def test_the_gain_of_a_cut_is_what_it_takes_from_the_squared_error(values: list[float]) -> None:
    array = np.array(values) - np.mean(values)

    def error(part: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> float:
        return float(((part - part.mean()) ** 2).sum())

    gains = [error(array) - error(array[:place]) - error(array[place:]) for place in range(SHORTEST, len(array) - SHORTEST + 1)]
    assert best_cut(array) == pytest.approx(max(gains), abs=1e-9)


def test_without_ruptures_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    (series,) = series_of(frame(rows(noisy([(0.8, 10)]), arm=A)))
    with pytest.raises(SetupError, match=r"pip install 'ttft\[trend\]'"):
        changes(series)
