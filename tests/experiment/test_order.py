"""The order of the runs: fair to every arm, and drift falls on all alike."""

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.experiment.cache_state import PlannedRun, rounds_of, schedule

ARMS = st.lists(st.text("abcdef:=1", min_size=1, max_size=6), min_size=1, max_size=6, unique=True)
ROUNDS = st.integers(1, 30)


def by_round(runs: list[PlannedRun], rounds: int) -> list[list[str]]:
    return [[run.arm for run in runs if run.round == pair] for pair in range(rounds)]


@settings(deadline=None)
@given(ARMS, ROUNDS)
def test_every_arm_runs_once_a_round(arms: list[str], rounds: int) -> None:
    for taking_part in by_round(schedule(arms, rounds), rounds):
        assert Counter(taking_part) == Counter(arms)


@settings(deadline=None)
@given(ARMS, ROUNDS, st.integers(1, 30), st.data())
def test_neighbouring_rounds_go_in_opposite_directions(arms: list[str], rounds: int, count: int, data: st.DataObject) -> None:
    sparse = data.draw(st.lists(st.sampled_from(arms), unique=True))
    for pair, taking_part in enumerate(by_round(schedule(arms, rounds, sparse, count), rounds)):
        forward = [arm for arm in arms if arm in taking_part]
        assert taking_part == (forward if pair % 2 == 0 else forward[::-1])


@settings(deadline=None)
@given(ARMS, ROUNDS, st.integers(1, 40), st.data())
def test_sparse_arms_run_in_just_so_many_rounds(arms: list[str], rounds: int, count: int, data: st.DataObject) -> None:
    sparse = data.draw(st.lists(st.sampled_from(arms), unique=True))
    runs = Counter(run.arm for run in schedule(arms, rounds, sparse, count))
    for arm in arms:
        assert runs[arm] == (min(count, rounds) if arm in sparse else rounds)


@settings(deadline=None)
@given(ARMS, ROUNDS, st.integers(1, 30))
def test_runs_are_numbered_in_time_order(arms: list[str], rounds: int, count: int) -> None:
    runs = schedule(arms, rounds, arms[:1], count)
    assert [run.run for run in runs] == list(range(len(runs)))
    assert [run.round for run in runs] == sorted(run.round for run in runs)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_chosen_rounds_are_spread_evenly_from_the_first_to_the_last(count: int, rounds: int) -> None:
    chosen = sorted(rounds_of(count, rounds))
    assert len(chosen) == min(count, rounds)
    assert chosen[0] == 0
    if count > 1:
        assert chosen[-1] == rounds - 1
        gaps = {later - sooner for sooner, later in pairwise(chosen)}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_three_rounds_of_three() -> None:
    order = [(run.round, run.arm) for run in schedule(["a", "b", "c"], 3, ["c"], 2)]
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (2, "c")]
