from itertools import pairwise
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.experiment.cache_state import expected_hits
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.multi_turn import MultiTurn

WIDE = Limits(vocabulary=2**31, max_tokens=4096, chunk_tokens=1)
OPTIONS = {"conversations": 3, "turns": 4, "system": 40, "user": 7, "answer": 11}


class TestMultiTurn(WorkloadTests):
    workload = MultiTurn

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return dict(OPTIONS)


def test_conversations_take_turns() -> None:
    data = build(MultiTurn, {"conversations": 2, "turns": 2}, WIDE)
    assert [prompt.id for prompt in data.prompts] == ["c0t0", "c1t0", "c0t1", "c1t1"]


def test_each_turn_sends_the_whole_history() -> None:
    data = build(MultiTurn, OPTIONS, WIDE)
    for c in range(3):
        turns = [prompt for prompt in data.prompts if prompt.id.startswith(f"c{c}")]
        assert [len(turn.tokens) for turn in turns] == [47, 65, 83, 101]
        for before, after in pairwise(turns):
            assert after.tokens[: len(before.tokens)] == before.tokens
            assert after.prefix_tokens == len(before.tokens)


def test_first_turns_hit_the_system_prompt_once_somebody_sent_it() -> None:
    first = build(MultiTurn, OPTIONS, WIDE).prompts[:3]
    assert [prompt.prefix_tokens for prompt in first] == [0, 40, 40]


def test_the_rule_is_what_a_natural_run_does() -> None:
    """With chunks of one token, nothing is lost to rounding: the claims are the longest heads seen before."""
    data = build(MultiTurn, OPTIONS, WIDE)
    assert expected_hits(data, "natural", 1) == [prompt.prefix_tokens for prompt in data.prompts]


def test_late_turns_that_are_too_long_are_skipped_and_counted() -> None:
    narrow = Limits(vocabulary=1000, max_tokens=83 + 4, chunk_tokens=16)
    data = build(MultiTurn, OPTIONS, narrow)
    assert max(len(prompt.tokens) for prompt in data.prompts) == 83
    assert "Skipped 3 of 12 prompts" in data.notes[0]
    with pytest.raises(UsageError, match=r"no prompt of multi_turn fits.*47 to 101 tokens.*allows 47"):
        build(MultiTurn, OPTIONS, Limits(vocabulary=1000, max_tokens=47, chunk_tokens=16))
