"""Loads between steps in real vLLM: equal tokens, failures before and after the release, clients that leave, one link for all."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import CHUNK, Running, start, tokens

from harness.core.chunks import KVGeometry, Layout
from harness.experiment.rows import load_reason

ALL, TWO, SHORTEST = "deferred", "deferred:release=2,readers=2", "deferred:release=1,order=shortest,loops=1,batch=2"
REUSE = "deferred:reuse=true,release=2"
ARMS = [ALL, TWO, SHORTEST, "deferred:staged=1,verify=1", REUSE]

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from start(tmp_path_factory.mktemp("vllm"), [*ARMS, "layerwise:depth=2"], extra={"max_num_batched_tokens": 512})


def path_of(vllm: Running, key: str) -> Path:
    return next((vllm.folder / "store").rglob(f"{key}*"))


@pytest.mark.parametrize("arm", ARMS)
def test_the_hit_is_proven_and_the_tokens_are_those_of_recompute(vllm: Running, arm: str) -> None:
    prompt = tokens("between", 3 * CHUNK + 40)
    keys = vllm.prime(prompt, 3)
    label = vllm.label()
    outcome = vllm.send(arm, prompt, 12, label=label)
    assert outcome.cached_tokens == 3 * CHUNK
    assert outcome.tokens == vllm.send("recompute", prompt, 12).tokens
    assert load_reason(vllm.loads(label), 3 * CHUNK, True, vllm.session.log.saved, keys) == ""


def test_many_at_once_of_all_kinds(vllm: Running) -> None:
    """Some share a prefix, one has no hit, one is loaded within its step."""
    prompts = [tokens(f"many{i // 2}", 3 * CHUNK + 20 + i) for i in range(8)]
    for prompt in prompts[:7:2]:
        vllm.prime(prompt, 3)
    arms = [ALL, TWO, SHORTEST, ALL, "layerwise:depth=2", TWO, ALL, "recompute"]
    truths = [vllm.send("recompute", prompt, 8).tokens for prompt in prompts]
    labels = [vllm.label() for _ in prompts]
    outcomes = vllm.send_all([(arm, prompt, 8, label) for arm, prompt, label in zip(arms, prompts, labels, strict=True)])
    assert [outcome.tokens for outcome in outcomes] == truths
    assert [outcome.cached_tokens for outcome in outcomes] == [3 * CHUNK] * 7 + [0]


def test_requests_that_come_together_share_what_is_read_of_their_prefix(vllm: Running) -> None:
    """Fewer bytes are read than by four, and each has all of its prefix in its blocks."""
    prompts = [tokens("shared", 3 * CHUNK) + tokens(f"own{i}", 20) for i in range(4)]
    vllm.prime(prompts[0], 3)
    truths = [vllm.send("recompute", prompt, 8).tokens for prompt in prompts]
    labels = [vllm.label() for _ in prompts]
    outcomes = vllm.send_all([(REUSE, prompt, 8, label) for prompt, label in zip(prompts, labels, strict=True)])
    assert [(outcome.cached_tokens, outcome.tokens) for outcome in outcomes] == [(3 * CHUNK, truth) for truth in truths]
    loads = [vllm.loads(label) for label in labels]
    assert [load_reason(own, 3 * CHUNK, True, vllm.session.log.saved) for own in loads] == [""] * 4
    by_four = 4 * 3 * KVGeometry(**vllm.session.log.start["geometry"]).chunk_bytes
    assert sum(one["bytes"] for own in loads for one in own) < by_four, "each read all of its own"


@pytest.mark.parametrize("arm", [ALL, TWO])
@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("damage", ["first layer", "last layer"])
def test_what_fails_is_computed(vllm: Running, arm: str, bad: int, damage: str) -> None:
    """The first chunk or a later one, seen before the release or, in the last layer, after it."""
    prompt = tokens(f"bad {damage} {bad} {arm}", 3 * CHUNK + 30)
    truth = vllm.send("recompute", prompt, 8)
    path = path_of(vllm, vllm.prime(prompt, 3)[bad])
    layout = Layout(KVGeometry(**vllm.session.log.start["geometry"]))
    data = path.read_bytes()
    path.write_bytes(b"x" * len(data) if damage == "first layer" else data[: layout.offset(layout.geometry.layers - 1)])
    label = vllm.label()
    outcome = vllm.send(arm, prompt, 8, label=label)
    assert (outcome.error, outcome.tokens) == ("", truth.tokens)
    assert "could not be loaded" in load_reason(vllm.loads(label), 3 * CHUNK, True, vllm.session.log.saved)


def test_a_client_that_leaves_during_its_load_leaves_nothing_behind(vllm: Running) -> None:
    """Its blocks go to others, which must not find its late bytes in them."""
    gone = [tokens(f"gone{i}", 6 * CHUNK + 30) for i in range(3)]
    for prompt in gone:
        vllm.prime(prompt, 6)
    stays = tokens("stays", 5 * CHUNK)
    truth = vllm.send("recompute", stays, 8)

    async def leave(arm: str, prompt: list[int], after_s: float) -> None:
        sending = asyncio.ensure_future(vllm.session.send(arm, prompt, 4, vllm.namespace, hit=len(prompt), save=False, label=""))
        await asyncio.sleep(after_s)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    async def together() -> tuple[int, ...]:
        leaving = [leave(arm, prompt, 0.004 * i) for i, (arm, prompt) in enumerate(zip([ALL, TWO, TWO], gone, strict=True))]
        gather = asyncio.gather(*leaving)
        outcome = await vllm.session.send("recompute", stays, 8, vllm.namespace, hit=0, save=False, label="")
        await gather
        return outcome.tokens

    for _ in range(3):
        assert vllm.call(together()) == truth.tokens
    assert [vllm.send(arm, gone[0]).tokens for arm in (ALL, TWO)] == [vllm.send("recompute", gone[0]).tokens] * 2
