"""Preemption: more requests than the KV cache holds; those thrown out come back and load again."""

from collections.abc import Iterator

import pytest
from running import CHUNK, Running, start, tokens

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ARMS = ["chunkwise:pool=2", "layerwise:depth=2", "hybrid:k=1", "deferred:release=2", "auto"]
BLOCK_BYTES = 4 * 2 * 4 * 64 * 4 * 128  # layers x (key, value) x KV heads x head size x float32 x block tokens
BLOCKS = 22
OUTPUT = 60


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from start(tmp_path_factory.mktemp("vllm"), ARMS, kv_cache_bytes=BLOCKS * BLOCK_BYTES, max_model_len=2048)


@pytest.fixture(scope="module")
def prompts(vllm: Running) -> list[tuple[list[int], tuple[int, ...]]]:
    """With the tokens of recompute. Five blocks each: together they fit, with one more each while they decode they do not."""
    prompts = [tokens(f"preempt{i}", 2 * CHUNK + 100) for i in range(4)]
    for prompt in prompts:
        vllm.prime(prompt, 2)
    return [(prompt, vllm.send("recompute", prompt, OUTPUT).tokens) for prompt in prompts]


@pytest.mark.parametrize("arm", [*ARMS, "one of each"])
def test_preempted_requests_load_again_and_give_the_same_tokens(
    vllm: Running, prompts: list[tuple[list[int], tuple[int, ...]]], arm: str
) -> None:
    labels = [vllm.label() for _ in prompts]
    arms = ARMS[1:] if arm == "one of each" else [arm] * 4
    outcomes = vllm.send_all([(arms[i], prompt, OUTPUT, labels[i]) for i, (prompt, _) in enumerate(prompts)])
    assert sum(outcome.preemptions or 0 for outcome in outcomes) > 0, "nothing was preempted, so nothing was tested"
    assert [outcome.error for outcome in outcomes] == [""] * 4
    assert [outcome.tokens for outcome in outcomes] == [truth for _, truth in prompts]
    loads = [vllm.loads(label) for label in labels]
    assert sum(len(records) for records in loads) == 4 + sum(outcome.preemptions or 0 for outcome in outcomes)
