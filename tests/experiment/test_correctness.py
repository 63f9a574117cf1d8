"""Nothing is timed before every loading arm has given the tokens of recompute."""

from collections.abc import Callable

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, Lab, Served, lab

from harness.core.errors import RunError, VoidRuns
from harness.experiment.correctness import OUTPUT_TOKENS, choose
from harness.workloads.base import Prompt

__all__ = ["lab"]


def prompt(name: str, length: int) -> Prompt:
    return Prompt(name, tuple(range(length)), 0, 2)


def test_the_shortest_prompts_that_hit_something_are_chosen() -> None:
    prompts = [prompt("long", 90), prompt("miss", 10), prompt("short", 20), prompt("middle", 50)]
    hits = [64, 0, 16, 32]
    assert [(one.id, hit) for one, hit in choose(prompts, hits, 2)] == [("short", 16), ("middle", 32)]
    assert len(choose(prompts, hits, 9)) == 3
    assert choose(prompts, hits, 0) == []


def test_the_pass_compares_every_loading_arm_on_every_chosen_prompt(lab: Lab) -> None:
    run = lab.measure(correctness_prompts=2)
    assert run.meta["correctness"] == {
        "status": "passed", "prompts": 2, "output_tokens": OUTPUT_TOKENS, "arms": [CHUNKWISE, LAYERWISE],
    }  # fmt: skip
    labels = [one.label for one in lab.vllm.served if one.label.startswith("correctness")]
    assert labels == [f"correctness/{i}/{arm}" for i in range(2) for arm in (CHUNKWISE, LAYERWISE)]


def test_without_prompts_there_is_no_pass(lab: Lab) -> None:
    run = lab.measure(correctness_prompts=0)
    assert run.meta["correctness"] == {"status": "skipped"}
    assert run.meta["status"] == "complete"
    assert not [one for one in lab.vllm.served if one.label.startswith("correctness")]


def other_tokens(served: Served) -> None:
    served.tokens[3] ^= 1


def wrong_hit(served: Served) -> None:
    served.cached_tokens = 16


def wrong_kv(served: Served) -> None:
    key, layer, digest = served.proof[0]
    served.proof[0] = (key, layer, digest ^ 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_tokens, "only 7 of 8 tokens equal those of recompute"),
        (wrong_hit, "hit 16 tokens, but 32 are stored"),
        (wrong_kv, "the KV in the paged cache is not what was saved: layer 0"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_wrong_arm_is_named_before_anything_is_timed(
    lab: Lab, change: Callable[[Served], None], reason: str, dtype: str
) -> None:
    lab.vllm.tamper = lambda served: change(served) if served.label == f"correctness/0/{LAYERWISE}" else None
    with pytest.raises(VoidRuns, match=f"arm {LAYERWISE} is not correct, so nothing was timed: prompt g0p0: {reason}"):
        lab.measure(dtype=dtype)
    run = lab.run()
    assert len(run.requests) == 0
    assert lab.vllm.timed == []
    assert run.meta["status"] == "partial"
    assert run.meta["correctness"]["status"] == "failed"
    assert reason in run.meta["correctness"]["detail"]
    assert lab.left() == set()
    assert all(engine.closed for engine in lab.vllm.engines)


def test_a_request_that_fails_in_the_pass_ends_it_with_the_arm(lab: Lab) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "error", "it broke") if served.label else None
    with pytest.raises(RunError, match=f"the correctness pass failed in arm {CHUNKWISE}: it broke"):
        lab.measure()
    lab.vllm.tamper = lambda served: setattr(served, "error", "it broke") if served.arm == "recompute" else None
    with pytest.raises(RunError, match="the correctness pass failed: it broke"):
        lab.measure()
    assert lab.left() == set()
