"""Real vLLM with saves behind the step, in a cache so small that blocks change hands: what was saved is right."""

import asyncio
import time
from collections.abc import Iterator, Sequence

import pytest
from running import CHUNK, Running, start, tokens

from harness.experiment.rows import load_reason

ARMS = ["chunkwise:pool=2", "layerwise:groups=auto,readers=2"]

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from start(tmp_path_factory.mktemp("vllm"), ARMS, save_threads=2, max_model_len=1024, kv_cache_bytes=20 * 2**20)


def miss_together(vllm: Running, prompts: Sequence[Sequence[int]]) -> None:
    """Requests that arrive together, all computed and saved."""

    async def together() -> None:
        await asyncio.gather(*(vllm.session.send("recompute", prompt, 4, vllm.namespace, hit=0, save=True) for prompt in prompts))

    vllm.call(together())


def settled(vllm: Running, keys: Sequence[str]) -> int:
    """How many of the chunks were saved, once each was or was given up."""
    trace, until = vllm.session.trace, time.monotonic() + 60
    while time.monotonic() < until:
        trace.poll()
        saved = sum(key in trace.saved for key in keys)
        if saved + len(trace.save_errors) >= len(keys):
            break
        time.sleep(0.05)
    assert all("needed before they could be copied" in error for error in trace.save_errors)
    return saved


@pytest.mark.parametrize("arm", ARMS)
def test_what_is_saved_behind_the_step_gives_the_tokens_of_recompute(vllm: Running, arm: str) -> None:
    vllm.session.trace.save_errors.clear()
    prompts = [tokens(f"{arm} {number}", 3 * CHUNK + 40) for number in range(8)]
    keys = [list(vllm.session.keys(prompt[: 3 * CHUNK], vllm.namespace)) for prompt in prompts]
    for first in range(0, len(prompts), 4):
        miss_together(vllm, prompts[first : first + 4])
    assert settled(vllm, [key for own in keys for key in own]) > 0
    hits = 0
    for prompt in prompts:
        truth = vllm.send("recompute", prompt, 8)
        label = vllm.label()
        outcome = vllm.send(arm, prompt, 8, label=label)
        assert outcome.tokens == truth.tokens
        if outcome.cached_tokens:
            hits += 1
            assert load_reason(vllm.loads(label), outcome.cached_tokens, True, vllm.session.trace.saved) == ""
    assert hits
