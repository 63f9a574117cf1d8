from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.chunks import hit_limit
from harness.core.errors import UsageError
from harness.experiment.cache_state import CacheState, distinct_chunks, expected_hits, priming_plan
from harness.workloads.base import DataSet, Prompt


def data_of(*prompts: tuple[Sequence[int], int]) -> DataSet:
    return DataSet(tuple(Prompt(f"p{i}", tuple(tokens), prefix, 1) for i, (tokens, prefix) in enumerate(prompts)))


@st.composite
def data_sets(draw: st.DrawFn) -> DataSet:
    """Few different tokens, so that heads are shared often."""
    token_lists = draw(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=24), max_size=8))
    return data_of(*((tokens, draw(st.integers(0, len(tokens)))) for tokens in token_lists))


def chunks_of(tokens: Sequence[int], chunk: int) -> set[tuple[int, ...]]:
    """Whole chunks with all that stands in front of them, which is what a key names."""
    return {tuple(tokens[:end]) for end in range(chunk, len(tokens) + 1, chunk)}


def test_primed_is_the_workloads_prefix_in_whole_chunks() -> None:
    data = data_of((range(100), 64), (range(100), 63), (range(100), 3), (range(64), 64), (range(65), 65))
    assert expected_hits(data, "primed", 16) == [64, 48, 0, 48, 64]


def test_natural_is_what_earlier_prompts_left() -> None:
    data = data_of((range(40), 32), (range(40), 0), (range(33), 0), (range(32), 0), ([9, *range(40)], 0))
    assert expected_hits(data, "natural", 16) == [0, 32, 32, 16, 0]


def test_natural_saves_no_partial_chunk() -> None:
    data = data_of((range(31), 0), (range(40), 0))
    assert expected_hits(data, "natural", 16) == [0, 16]


@pytest.mark.parametrize("state", ["cold", ""])
def test_an_unknown_state_is_refused(state: str) -> None:
    with pytest.raises(UsageError, match=r"unknown cache state .*known: natural, primed"):
        expected_hits(data_of((range(3), 0)), cast(CacheState, state), 16)


@settings(deadline=None)
@given(data=data_sets(), chunk=st.integers(1, 5))
def test_natural_hits_are_those_of_a_store_that_is_simulated(data: DataSet, chunk: int) -> None:
    stored: set[tuple[int, ...]] = set()
    for prompt, hit in zip(data.prompts, expected_hits(data, "natural", chunk), strict=True):
        assert hit % chunk == 0
        assert hit < len(prompt.tokens)
        assert chunks_of(prompt.tokens[:hit], chunk) <= stored
        longer = hit + chunk
        assert longer > hit_limit(len(prompt.tokens), chunk) or prompt.tokens[:longer] not in stored
        stored |= chunks_of(prompt.tokens, chunk)


@settings(deadline=None)
@given(data=data_sets(), chunk=st.integers(1, 5))
def test_priming_stores_what_is_hit_and_nothing_else(data: DataSet, chunk: int) -> None:
    hits = expected_hits(data, "primed", chunk)
    plan = priming_plan(data, hits, chunk)
    needed: set[tuple[int, ...]] = set()
    for prompt, hit in zip(data.prompts, hits, strict=True):
        needed |= chunks_of(prompt.tokens[:hit], chunk)
    stored: set[tuple[int, ...]] = set()
    for tokens in plan:
        stored |= chunks_of(tokens, chunk)
    assert stored == needed
    assert distinct_chunks(plan, chunk) == len(needed)


@settings(deadline=None)
@given(data=data_sets(), chunk=st.integers(1, 5))
def test_no_prompt_of_the_plan_is_the_head_of_another(data: DataSet, chunk: int) -> None:
    plan = priming_plan(data, expected_hits(data, "primed", chunk), chunk)
    for i, tokens in enumerate(plan):
        assert tokens
        assert len(tokens) % chunk == 0
        assert not any(other[: len(tokens)] == tokens for j, other in enumerate(plan) if j != i)


@settings(deadline=None)
@given(data=data_sets(), chunk=st.integers(1, 5))
def test_run_in_order_the_plan_computes_no_shared_head_twice(data: DataSet, chunk: int) -> None:
    """Each prompt of the plan hits all that it has in common with any before it in the one right before."""
    plan = priming_plan(data, expected_hits(data, "primed", chunk), chunk)
    for i, tokens in enumerate(plan[1:], start=1):
        earlier = set().union(*(chunks_of(other, chunk) for other in plan[:i]))
        assert chunks_of(tokens, chunk) & earlier == chunks_of(tokens, chunk) & chunks_of(plan[i - 1], chunk)


def test_shared_heads_are_primed_once() -> None:
    data = data_of((range(64), 32), (range(64), 48), ([*range(32), *range(90, 122)], 48), (range(64), 0))
    plan = priming_plan(data, [32, 48, 48, 0], 16)
    assert plan == [tuple(range(48)), (*range(32), *range(90, 106))]
    assert distinct_chunks(plan, 16) == 4


@pytest.mark.parametrize(("hits", "named"), [([15], 15), ([48], 48), ([-16], -16)])
def test_a_hit_that_cannot_be_is_refused(hits: list[int], named: int) -> None:
    with pytest.raises(UsageError, match=f"prompt p0 of 40 tokens cannot hit {named}"):
        priming_plan(data_of((range(40), 0)), hits, 16)


def test_distinct_chunks_counts_no_partial_ones() -> None:
    lists: list[Any] = [range(33), range(40), range(15), [*range(16), *range(16)]]
    assert distinct_chunks(lists, 16) == 3
