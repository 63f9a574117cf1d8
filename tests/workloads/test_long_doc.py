from typing import Any

import pytest

from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.long_doc import LongDoc

LIMITS = Limits(vocabulary=2**31, max_tokens=4096, chunk_tokens=16)


class TestLongDoc(WorkloadTests):
    workload = LongDoc

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"documents": 2, "document": 96, "questions": 3, "question": 5}


def test_a_document_is_read_before_the_next() -> None:
    data = build(LongDoc, {"documents": 2, "document": 32, "questions": 2, "question": 3}, LIMITS)
    assert [prompt.id for prompt in data.prompts] == ["d0q0", "d0q1", "d1q0", "d1q1"]


def test_prefix_is_the_document() -> None:
    data = build(LongDoc, {"documents": 2, "document": 32, "questions": 2, "question": 3}, LIMITS)
    one, two, other, _ = data.prompts
    assert one.tokens[:32] == two.tokens[:32]
    assert one.tokens[32] != two.tokens[32]
    assert one.tokens[0] != other.tokens[0]
    assert {(len(p.tokens), p.prefix_tokens) for p in data.prompts} == {(35, 32)}
