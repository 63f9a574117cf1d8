"""Chunk keys: equal keys mean equal prefixes, on the same kind of machine."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.chunks import ChunkKey, chain, chain_digest, for_rank, root

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=40)
SIZES = st.integers(1, 8)
START = root({"model": "m"})
JSON = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=6)


@settings(deadline=None)
@given(TOKENS, TOKENS, SIZES)
def test_a_longer_prompt_begins_with_the_keys_of_its_head(head: list[int], tail: list[int], size: int) -> None:
    keys = chain(START, head, size)
    assert len(keys) == len(head) // size
    assert chain(START, head + tail, size)[: len(keys)] == keys


@settings(deadline=None)
@given(TOKENS, TOKENS, SIZES)
def test_keys_agree_exactly_as_far_as_the_tokens_do(one: list[int], other: list[int], size: int) -> None:
    whole = min(len(one), len(other)) // size
    for i, (a, b) in enumerate(zip(chain(START, one, size), chain(START, other, size), strict=False)):
        end = (i + 1) * size
        assert i < whole
        assert (a == b) == (one[:end] == other[:end])


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=40), st.data())
def test_one_other_token_changes_its_chunk_and_all_after_it(tokens: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(tokens) - 1))
    changed = list(tokens)
    changed[place] = (changed[place] + 1) % 2**32
    before, after = chain(START, tokens, 4), chain(START, changed, 4)
    same = [a == b for a, b in zip(before, after, strict=True)]
    assert same == [i < place // 4 for i in range(len(same))]


@settings(deadline=None)
@given(JSON)
def test_a_root_does_not_depend_on_the_order(identity: dict[str, object]) -> None:
    assert root(dict(reversed(identity.items()))) == root(identity)
    assert len(root(identity)) == 16


@settings(deadline=None)
@given(JSON, JSON)
def test_other_identities_have_other_roots(one: dict[str, object], other: dict[str, object]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (root(one) == root(other)) == same


def test_another_root_shares_no_key() -> None:
    other = root({"model": "m", "namespace": "x"})
    assert set(chain(START, range(64), 8)).isdisjoint(chain(other, range(64), 8))


def test_the_chunk_size_is_part_of_the_keys() -> None:
    assert set(chain(START, [7] * 64, 8)).isdisjoint(chain(START, [7] * 64, 16))


def test_keys_are_the_same_in_every_version() -> None:
    """Stores outlive the program: a change here makes every stored chunk unreachable, so raise the format version."""
    assert chain(root({"a": 1}), [1, 2, 3, 4, 5], 2) == ["58d166a1b259dc65157b93ac6d2acf12", "7855fd1f32b11107fbf1c4b0a0f8961f"]


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_a_token_that_does_not_fit_is_refused(bad: int) -> None:
    with pytest.raises(ValueError, match="token ids"):
        chain(START, [1, bad], 2)


@pytest.mark.parametrize("size", [0, -4])
def test_a_chunk_needs_tokens(size: int) -> None:
    with pytest.raises(ValueError, match="chunk_tokens"):
        chain(START, [1], size)


@settings(deadline=None)
@given(st.integers(0, 63), st.integers(2, 64))
def test_ranks_keep_apart_what_belongs_to_one_chunk(rank: int, world: int) -> None:
    (key,) = chain(START, [1, 2], 2)
    mine = for_rank(key, rank, world)
    assert mine not in (key, for_rank(key, rank + 1, world), for_rank(key, rank, world + 1))
    assert chain_digest(mine) == chain_digest(key)


def test_a_single_rank_has_no_suffix() -> None:
    assert for_rank(ChunkKey("ab" * 16), 0, 1) == "ab" * 16
