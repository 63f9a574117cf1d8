from collections.abc import Iterable
from typing import Any

import pytest

from harness.core.chunks import hit_limit, whole_chunks
from harness.core.errors import UsageError
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits, Prompt
from harness.workloads.shared_prefix import SharedPrefix

LIMITS = Limits(vocabulary=1000, max_tokens=200, chunk_tokens=16)


class TestSharedPrefix(WorkloadTests):
    workload = SharedPrefix

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"groups": 3, "prefix": 64, "suffix": 8, "prompts": 2}


def test_groups_take_turns() -> None:
    data = build(SharedPrefix, {"groups": 2, "prefix": 16, "suffix": 4, "prompts": 3}, LIMITS)
    assert [prompt.id for prompt in data.prompts] == ["g0p0", "g1p0", "g0p1", "g1p1", "g0p2", "g1p2"]


def test_prefix_is_exactly_the_shared_part() -> None:
    wide = Limits(vocabulary=2**31, max_tokens=200, chunk_tokens=16)
    data = build(SharedPrefix, {"groups": 2, "prefix": 48, "suffix": 5, "prompts": 2, "output": 7}, wide)
    first, other_group, second = data.prompts[:3]
    assert first.tokens[:48] == second.tokens[:48]
    assert first.tokens[48] != second.tokens[48]
    assert first.tokens[0] != other_group.tokens[0]
    assert {(len(p.tokens), p.prefix_tokens, p.output_tokens) for p in data.prompts} == {(53, 48, 7)}
    assert hit_limit(53, 16) == 48


def test_a_prefix_of_no_whole_chunks_is_pointed_out() -> None:
    assert build(SharedPrefix, {"prefix": 64, "suffix": 4}, LIMITS).notes == ()
    (note,) = build(SharedPrefix, {"prefix": 70, "suffix": 4}, LIMITS).notes
    assert "70 tokens" in note
    assert f"hits for {whole_chunks(70, 16)}" in note


@pytest.mark.parametrize("option", ["groups", "prefix", "suffix", "prompts", "output"])
def test_nothing_may_be_zero(option: str) -> None:
    with pytest.raises(UsageError, match=f"shared_prefix: {option}=0 is invalid"):
        build(SharedPrefix, {option: 0}, LIMITS)


def test_too_long_prompts_end_in_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"no prompt of shared_prefix fits.* 208 to 208 tokens.*smaller prefix= or suffix="):
        build(SharedPrefix, {"prefix": 200, "suffix": 8}, LIMITS)


def test_truncating_keeps_the_head_and_shrinks_the_hit() -> None:
    options = {"prefix": 200, "suffix": 8, "groups": 1, "prompts": 1, "output": 4}
    wide = Limits(vocabulary=1000, max_tokens=4096, chunk_tokens=16)
    (whole,) = build(SharedPrefix, options, wide).prompts
    data = build(SharedPrefix, {**options, "over_long": "truncate"}, LIMITS)
    (cut,) = data.prompts
    assert cut.tokens == whole.tokens[:196]
    assert cut.prefix_tokens == 196
    assert "Truncated 1 of 1 prompts" in data.notes[0]


class TestWithFreshPrompts(WorkloadTests):
    workload = SharedPrefix

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"working_set": 180, "prefix": 64, "suffix": 8, "prompts": 6, "hit_rate": 0.75}


def test_the_working_set_says_how_many_prefixes_take_turns() -> None:
    data = build(SharedPrefix, {"working_set": 200, "prefix": 64, "suffix": 8, "prompts": 2}, LIMITS)
    assert [prompt.id for prompt in data.prompts] == ["g0p0", "g1p0", "g2p0", "g3p0", "g0p1", "g1p1", "g2p1", "g3p1"]
    assert len({prompt.tokens[:64] for prompt in data.prompts}) * 64 == 256
    with pytest.raises(UsageError, match=r"groups= and working_set= both say how many prefixes there are; give one of them"):
        build(SharedPrefix, {"working_set": 200, "groups": 2}, LIMITS)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.66, 1.0])
def test_the_hit_rate_is_kept_exactly_and_spread_over_groups_and_time(rate: float) -> None:
    data = build(SharedPrefix, {"groups": 10, "prefix": 16, "suffix": 4, "prompts": 20, "hit_rate": rate}, LIMITS)
    hits = [prompt.prefix_tokens > 0 for prompt in data.prompts]
    assert sum(hits) == round(200 * rate)
    fresh = [prompt.tokens[:16] for prompt in data.prompts if not prompt.prefix_tokens]
    assert len(set(fresh)) == len(fresh)
    for part in (hits[:100], hits[100:], hits[::10], hits[1::10]):
        assert abs(sum(part) / len(part) - rate) < 0.35
    with pytest.raises(UsageError, match="shared_prefix: hit_rate=0 is invalid"):
        build(SharedPrefix, {"hit_rate": 0}, LIMITS)


def held(prompts: Iterable[Prompt], room: int) -> int:
    """Prompts whose prefix a store of so many prefixes still has, if it evicts what was used least recently."""
    store: dict[tuple[int, ...], None] = {}
    found = 0
    for prompt in prompts:
        prefix = prompt.tokens[:64]
        found += prefix in store
        store.pop(prefix, None)
        store[prefix] = None
        while len(store) > room:
            store.pop(next(iter(store)))
    return found


def test_a_store_smaller_than_the_working_set_evicts_and_a_larger_one_does_not() -> None:
    data = build(SharedPrefix, {"working_set": 8 * 64, "prefix": 64, "suffix": 8, "prompts": 5}, LIMITS)
    assert held(data.prompts, room=8) == 32  # all but the first of each group
    assert held(data.prompts, room=7) == 0


@pytest.mark.parametrize(("text", "tokens"), [("4k", 4096), ("4K", 4096), (" 2k ", 2048), ("64", 64), (64, 64)])
def test_lengths_may_be_written_as_model_cards_do(text: str | int, tokens: int) -> None:
    wide = Limits(vocabulary=1000, max_tokens=10_000, chunk_tokens=16)
    (prompt,) = build(SharedPrefix, {"prefix": text, "groups": 1, "prompts": 1}, wide).prompts
    assert prompt.prefix_tokens == tokens


@pytest.mark.parametrize("text", ["4kk", "k", "4 k", "-4k", "4G", "0k", "99999999999k"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="shared_prefix: prefix="):
        build(SharedPrefix, {"prefix": text}, LIMITS)
