from typing import Any

import pytest

from harness.core.chunks import hit_limit, whole_chunks
from harness.core.errors import UsageError
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
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
    with pytest.raises(UsageError, match=f"shared_prefix: {option}=0 will not do"):
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
