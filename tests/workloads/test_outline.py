"""An outline says of a data set what its prompts would say, without making them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import UsageError
from harness.core.options import parse_options
from harness.workloads import WORKLOADS
from harness.workloads.base import DataSet, Limits, Prompt, outline_of

TRACES = Path(__file__).parents[1] / "data" / "traces"
LIMITS = Limits(vocabulary=2**31, max_tokens=1400, chunk_tokens=16)
SPECS: list[tuple[str, dict[str, Any]]] = [
    ("azure", {"path": "azure.csv", "shared": 64, "scale": 0.7}),
    ("burstgpt", {"path": "burstgpt.csv", "model": "ChatGPT"}),
    ("mooncake", {"path": "mooncake.jsonl", "scale": 0.75, "over_long": "truncate", "start_s": 0.05}),
    ("timed_trace", {"path": "timed.jsonl", "limit": 3}),
    ("sharegpt", {"path": "sharegpt.json", "tokenizer": "bytes"}),
    ("openai_batch", {"path": "batch.jsonl", "tokenizer": "bytes"}),
    ("jsonl", {"path": "prompts.jsonl", "tokenizer": "bytes"}),
    ("multi_turn", {"system": 64, "user": 16, "answer": 16}),
]


@pytest.mark.parametrize(("name", "options"), SPECS, ids=[name for name, _ in SPECS])
def test_an_outline_is_that_of_the_prompts(name: str, options: dict[str, Any]) -> None:
    """With the same notes: traces take a way of their own, which must not part from that of the prompts."""
    cls = WORKLOADS.get(name)
    path = {"path": str(TRACES / options["path"])} if "path" in options else {}
    workload = cls(parse_options(cls.Options, {**options, **path}, name))
    found, data = workload.outline(LIMITS), workload.build(LIMITS)
    expected = outline_of(data)
    for column in ("prompt_tokens", "prefix_tokens", "output_tokens", "arrival_s"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    assert found.notes == data.notes
    assert len(found.prompt_tokens) >= 2


def test_a_trace_says_what_was_generated_and_how_long_its_blocks_are_as_sent() -> None:
    cls = WORKLOADS.get("mooncake")
    options = parse_options(cls.Options, {"path": str(TRACES / "mooncake.jsonl"), "scale": 0.5}, "x")
    outline = cls(options).outline(LIMITS)
    assert outline.recorded_tokens.tolist() == [500, 2, 30, 0, 10]
    assert outline.output_tokens.tolist() == [4, 2, 4, 1, 4]
    assert outline.block_tokens == 256


def test_prompts_alone_say_neither() -> None:
    outline = outline_of(DataSet((Prompt("a", (1, 2, 3), 2, 7, 0.5),), ("note",)))
    assert (outline.prompt_tokens[0], outline.prefix_tokens[0], outline.output_tokens[0]) == (3, 2, 7)
    assert (outline.arrival_s[0], outline.recorded_tokens[0], outline.block_tokens) == (0.5, -1, 0)
    assert outline.notes == ("note",)


def test_an_outline_of_nothing_is_refused_as_a_build_is() -> None:
    cls = WORKLOADS.get("azure")
    options = parse_options(cls.Options, {"path": str(TRACES / "azure.csv"), "start_s": 1000}, "x")
    with pytest.raises(UsageError, match="has no request at or after start_s=1000"):
        cls(options).outline(LIMITS)
