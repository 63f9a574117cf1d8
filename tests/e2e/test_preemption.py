"""Preemption: more requests than the KV cache holds; those thrown out come back and load again."""

from collections.abc import Iterator

import pytest
from running import CHUNK, Running, start, tokens

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ARMS = ["chunkwise:pool=2", "layerwise:depth=2", "deferred:release=2"]
BLOCK_BYTES = 4 * 2 * 4 * 64 * 4 * 128  # layers x (key, value) x KV heads x head size x float32 x block tokens
BLOCKS = 22


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from start(tmp_path_factory.mktemp("vllm"), ARMS, kv_cache_bytes=BLOCKS * BLOCK_BYTES, max_model_len=2048)


def test_preempted_requests_load_again_and_give_the_same_tokens(vllm: Running) -> None:
    prompts = [tokens(f"preempt{i}", 2 * CHUNK + 100) for i in range(4)]  # five blocks each: together they fit
    for prompt in prompts:
        vllm.prime(prompt, 2)
    output = 200  # and two more each while they decode: they do not
    truths = [vllm.send("recompute", prompt, output).tokens for prompt in prompts]
    labels = [vllm.label() for _ in prompts]
    requests = [(ARMS[i % 3], prompt, output, labels[i]) for i, prompt in enumerate(prompts)]
    outcomes = vllm.send_all(requests)
    assert sum(outcome.preemptions or 0 for outcome in outcomes) > 0, "nothing was preempted, so nothing was tested"
    assert [outcome.error for outcome in outcomes] == [""] * 4
    assert [outcome.tokens for outcome in outcomes] == truths
    loads = [vllm.loads(label) for label in labels]
    assert sum(len(records) for records in loads) == 4 + sum(outcome.preemptions or 0 for outcome in outcomes)
