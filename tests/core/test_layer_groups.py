"""Groups of layers: how they are written, and which of them the recurrence chooses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.recurrence import Link, Step, best_groups, equal_groups, groups_of, predict_layerwise, ttft_by_groups


@given(size=st.integers(1, 40), layers=st.integers(1, 100))
def test_equal_groups_cover_all_layers(size: int, layers: int) -> None:
    groups = groups_of(str(size), layers)
    assert groups == equal_groups(size, layers)
    assert sum(groups) == layers
    assert set(groups[:-1]) <= {size}
    assert 1 <= groups[-1] <= size


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=9))
def test_unequal_groups_are_taken_as_they_are_written(sizes: list[int]) -> None:
    assert groups_of("+".join(map(str, sizes)), sum(sizes)) == tuple(sizes)


def test_groups_that_do_not_add_up_are_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"^groups=6\+6 come to 12 layers, but the model has 24; let them add up to that$"):
        groups_of("6+6", 24)


@pytest.mark.parametrize("text", ["", "0", "-1", "6+", "6+0", "six", "6+6+..."])
def test_what_is_no_number_of_layers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no number of layers; write 6 for groups of 6 layers"):
        groups_of(text, 24)


def test_groups_of_one_size_may_be_written_either_way() -> None:
    link, step = Link(0.002, 3e8), Step(8, 24, 512 * 1024, 0.1)
    assert predict_layerwise(link, step, 8, 4, 6) == predict_layerwise(link, step, 8, 4, (6, 6, 6, 6))
    assert predict_layerwise(link, step, 8, 4, 5) == predict_layerwise(link, step, 8, 4, (5, 5, 5, 5, 4))


LINKS = st.builds(Link, st.floats(0, 0.05), st.floats(1e7, 1e10), st.none() | st.floats(1e7, 1e10))
STEPS = st.builds(Step, st.integers(1, 40), st.integers(1, 30), st.integers(4096, 10**6), st.floats(0.001, 1))


@given(link=LINKS, step=STEPS, readers=st.integers(1, 16), depth=st.integers(1, 30))
def test_the_chosen_groups_are_whole_and_hardly_ever_beaten_by_equal_ones(
    link: Link, step: Step, readers: int, depth: int
) -> None:
    """The choice takes many calls as rounds of equal ones, so it may be off by the last round, and more behind a shared pipe."""
    chosen = best_groups(link, step, readers, depth)
    assert sum(chosen) == step.layers
    assert min(chosen) >= 1
    found = predict_layerwise(link, step, readers, depth, chosen)
    equal = min(predict_layerwise(link, step, readers, depth, size) for size in range(1, step.layers + 1))
    assert found <= (1.2 if link.total_bytes_per_s is None else 2) * equal


def test_a_long_round_trip_makes_groups_larger_and_a_short_one_smaller() -> None:
    step = Step(8, 24, 512 * 1024, 0.04)
    counts = [len(best_groups(Link(trip, 3e8), step, 8, 24)) for trip in (0.00005, 0.002, 0.032, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 1


@given(
    link=LINKS,
    step=STEPS,
    depth=st.integers(1, 30),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    rounds=st.integers(1, 3),
)
def test_where_calls_come_in_whole_rounds_the_choice_sees_what_the_recurrence_says(
    link: Link, step: Step, depth: int, sizes: list[int], rounds: int
) -> None:
    alone = Link(link.latency_s, link.stream_bytes_per_s)
    readers = step.chunks
    step = Step(rounds * readers, sum(sizes), step.layer_bytes, step.compute_s)
    found = ttft_by_groups(alone, step, readers, depth, 1)(sizes)
    assert found == pytest.approx(predict_layerwise(alone, step, readers, depth, sizes))
