"""The connector in real vLLM: hits, equal tokens, mixed arms, failures, proofs, chunked prefill."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import CHUNK, Running, start, tokens

from harness.connector.settings import parse_arm
from harness.core.chunks import ChunkKey, KVGeometry, Layout, check_header, checksum, encode_header
from harness.experiment.rows import load_reason

ARMS = [
    "chunkwise:pool=0",
    "chunkwise:pool=4,batch=2",
    "chunkwise:pool=default",
    "chunkwise:staged=1",
    "layerwise:depth=2",
    "layerwise:depth=1,groups=3,readers=2",
    "layerwise:depth=3,loops=1,readers=4",
    "layerwise:staged=1",
    "layerwise:groups=1+2+1",
    "layerwise:groups=auto,readers=2",
]
HYBRID = {"hybrid:k=2": 2, "hybrid:k=9,groups=2": 3, "hybrid:share=0.4,loops=1": 1}
"""Chunks of three that each takes."""
KINDS = ["chunkwise:pool=4,batch=2", "layerwise:depth=2", "hybrid:k=2", "deferred:release=2", "auto"]
"""An arm of each engine that moves KV."""

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    # 512 tokens a step: a prompt whose rest is longer than that is prefilled in pieces.
    yield from start(
        tmp_path_factory.mktemp("vllm"),
        [*ARMS, *HYBRID, "hybrid", "auto", "deferred:release=2"],
        extra={"max_num_batched_tokens": 512},
    )


def layout_of(vllm: Running) -> Layout:
    return Layout(KVGeometry(**vllm.session.log.start["geometry"]))


def path_of(vllm: Running, key: str) -> Path:
    return next((vllm.folder / "store").rglob(f"{key}*"))


@pytest.mark.parametrize("arm", ARMS)
def test_every_loading_arm_hits_and_gives_the_tokens_of_recompute(vllm: Running, arm: str) -> None:
    prompt = tokens("hit", 3 * CHUNK + 40)
    vllm.prime(prompt, 3)
    truth = vllm.send("recompute", prompt, 12)
    label = vllm.label()
    outcome = vllm.send(arm, prompt, 12, label=label)
    assert truth.cached_tokens == 0
    assert outcome.cached_tokens == 3 * CHUNK
    assert outcome.tokens == truth.tokens
    loads = vllm.loads(label)
    assert load_reason(loads, 3 * CHUNK, True, vllm.session.log.saved) == ""
    expected = layout_of(vllm).geometry.chunk_bytes * 3
    assert expected <= loads[0]["bytes"] <= expected + 3 * layout_of(vllm).header_bytes


@pytest.mark.parametrize("arm", HYBRID)
def test_an_arm_that_takes_a_part_gives_the_tokens_of_recompute_and_proves_that_part(vllm: Running, arm: str) -> None:
    prompt = tokens("part", 3 * CHUNK + 40)
    keys = vllm.prime(prompt, 3)
    label, hit = vllm.label(), HYBRID[arm] * CHUNK
    outcome = vllm.send(arm, prompt, 12, label=label)
    assert outcome.cached_tokens == hit
    assert outcome.tokens == vllm.send("recompute", prompt, 12).tokens
    assert load_reason(vllm.loads(label), hit, True, vllm.session.log.saved, keys[: HYBRID[arm]]) == ""


def test_choosing_by_cost_learns_from_what_the_worker_measured(vllm: Running) -> None:
    """All, then half, then by what both showed: the worker's times reach the scheduler."""
    prompt = tokens("cost", 4 * CHUNK + 40)
    keys = vllm.prime(prompt, 4)
    truth = vllm.send("recompute", prompt, 12)
    granted = []
    for _ in range(4):
        label = vllm.label()
        outcome = vllm.send("hybrid", prompt, 12, label=label)
        assert outcome.tokens == truth.tokens
        assert outcome.cached_tokens
        taken = outcome.cached_tokens // CHUNK
        assert load_reason(vllm.loads(label), outcome.cached_tokens, True, vllm.session.log.saved, keys[:taken]) == ""
        granted.append(taken)
    assert granted[:2] == [4, 2]
    assert all(1 <= taken <= 4 for taken in granted)


def test_auto_tries_each_way_then_chooses_by_what_the_worker_measured_and_says_why(vllm: Running) -> None:
    """In each way the tokens are those of recompute, and the span log has the choice and its reason beside the lookup."""
    prompt = tokens("auto", 4 * CHUNK + 40)
    keys = vllm.prime(prompt, 4)
    truth = vllm.send("recompute", prompt, 12)
    hows, whys = [], []
    for _ in range(5):
        label = vllm.label()
        outcome = vllm.send("auto", prompt, 12, label=label)
        assert outcome.tokens == truth.tokens
        assert outcome.cached_tokens
        taken = outcome.cached_tokens // CHUNK
        assert load_reason(vllm.loads(label), outcome.cached_tokens, True, vllm.session.log.saved, keys[:taken]) == ""
        lookup = vllm.session.log.lookup(label)
        assert lookup is not None
        hows.append(lookup["how"].partition(":")[0])
        whys.append(lookup["why"])
    assert hows[0] == "layerwise"
    assert sorted(hows[:3]) == ["chunkwise", "hybrid", "layerwise"], "the worker's times reached the scheduler"
    assert whys[0].startswith("nothing is known yet")
    assert all(" ms expected, against " in why for why in whys[3:])


def test_floor_hits_loads_nothing_and_its_tokens_are_wrong(vllm: Running) -> None:
    prompt = tokens("floor", 2 * CHUNK + 40)
    vllm.prime(prompt, 2)
    label = vllm.label()
    truth, floor = vllm.send("recompute", prompt, 12), vllm.send("floor", prompt, 12, label=label)
    assert floor.cached_tokens == 2 * CHUNK
    assert vllm.loads(label)[0]["operations"] == 0
    assert floor.tokens != truth.tokens  # wrong KV shows in the tokens of this model, so equal tokens mean right KV


def test_the_hit_is_capped_and_leaves_a_token_to_compute(vllm: Running) -> None:
    prompt = tokens("cap", 2 * CHUNK)
    vllm.prime(prompt, 2)
    assert vllm.send(ARMS[0], prompt).cached_tokens == CHUNK
    longer = [*prompt, 7]
    assert vllm.send(ARMS[0], longer).cached_tokens == 2 * CHUNK
    assert vllm.send(ARMS[0], longer, hit=CHUNK).cached_tokens == CHUNK
    assert vllm.send(ARMS[0], tokens("other", 2 * CHUNK + 1)).cached_tokens == 0


def test_arms_mix_in_one_step(vllm: Running) -> None:
    """Requests that arrive together, each by another arm, some without a hit: each is right."""
    arms = [*KINDS, ARMS[0], ARMS[6], "recompute", ARMS[4]]
    prompts = [tokens(f"mixed{i}", CHUNK + 20 + i) for i in range(len(arms))]
    for prompt in prompts[:-1]:
        vllm.prime(prompt, 1)
    truths = [vllm.send("recompute", prompt, 8).tokens for prompt in prompts]
    labels = [vllm.label() for _ in prompts]
    outcomes = vllm.send_all([(arm, prompt, 8, label) for arm, prompt, label in zip(arms, prompts, labels, strict=True)])
    assert [outcome.tokens for outcome in outcomes] == truths
    assert [outcome.cached_tokens for outcome in outcomes] == [CHUNK] * (len(arms) - 2) + [0, 0]
    steps = [record["spans"][-1][2:4] for label in labels for record in vllm.loads(label)]
    assert len(steps) > len({tuple(step) for step in steps}), "no two requests shared a step, so nothing was mixed"


@pytest.fixture(scope="module")
def four(vllm: Running) -> list[tuple[list[int], tuple[int, ...]]]:
    """Prompts of three stored chunks, and the tokens of recompute."""
    prompts = [tokens(f"four{i}", 3 * CHUNK + 20 + i) for i in range(4)]
    for prompt in prompts:
        vllm.prime(prompt, 3)
    return [(prompt, vllm.send("recompute", prompt, 8).tokens) for prompt in prompts]


@pytest.mark.parametrize("arm", KINDS)
def test_four_at_once_by_one_arm_give_the_tokens_of_recompute(
    vllm: Running, four: list[tuple[list[int], tuple[int, ...]]], arm: str
) -> None:
    labels = [vllm.label() for _ in four]
    outcomes = vllm.send_all([(arm, prompt, 8, label) for (prompt, _), label in zip(four, labels, strict=True)])
    assert [outcome.tokens for outcome in outcomes] == [truth for _, truth in four]
    for outcome, label in zip(outcomes, labels, strict=True):
        assert outcome.cached_tokens
        assert load_reason(vllm.loads(label), outcome.cached_tokens, True, vllm.session.log.saved) == ""


def test_chunked_prefill_saves_each_chunk_whole(vllm: Running) -> None:
    prompt = tokens("long", 6 * CHUNK + 100)
    truth = vllm.send("recompute", prompt, 8)
    saved = vllm.send("recompute", prompt, 8, save=True)
    vllm.session.note_saves()
    keys = vllm.session.keys(prompt, vllm.namespace)
    assert vllm.store.exists(keys) == len(keys) == 6
    layout = layout_of(vllm)
    for key in keys:
        data = path_of(vllm, key).read_bytes()
        sums = check_header(layout, ChunkKey(key), data[: layout.header_bytes])
        width = layout.geometry.layer_bytes
        assert [checksum(data[layout.offset(i) : layout.offset(i) + width]) for i in range(layout.geometry.layers)] == list(sums)
    half = vllm.send(ARMS[4], prompt, 8, hit=2 * CHUNK)  # four chunks and a rest are left, in three steps
    assert half.cached_tokens == 2 * CHUNK
    assert saved.tokens == truth.tokens == half.tokens == vllm.send(ARMS[0], prompt, 8).tokens


@pytest.mark.parametrize(
    "arm", ["chunkwise:pool=0", "chunkwise:pool=4,batch=2", "layerwise:depth=2", "layerwise:depth=3,loops=1,readers=4"]
)
@pytest.mark.parametrize("damage", ["missing layer data", "not ours", "another chunk"])
def test_a_bad_object_counts_as_a_miss_and_is_computed(vllm: Running, arm: str, damage: str) -> None:
    prompt = tokens(f"bad {damage} {arm}", 3 * CHUNK + 30)
    truth = vllm.send("recompute", prompt, 8)
    keys = vllm.prime(prompt, 3)
    path = path_of(vllm, keys[1])
    data = path.read_bytes()
    other = path_of(vllm, keys[0]).read_bytes()
    path.write_bytes({"missing layer data": data[: len(data) // 2], "not ours": b"x" * len(data), "another chunk": other}[damage])
    label = vllm.label()
    outcome = vllm.send(arm, prompt, 8, label=label)
    assert outcome.error == ""
    assert outcome.tokens == truth.tokens
    loads = vllm.loads(label)
    assert loads[0]["failed_blocks"] == layout_of(vllm).geometry.chunk_blocks
    assert "could not be loaded" in load_reason(loads, 3 * CHUNK, True, vllm.session.log.saved)


@pytest.mark.parametrize("arm", KINDS)
def test_one_of_four_at_once_fails_in_its_last_layer_and_all_give_the_tokens_of_recompute(vllm: Running, arm: str) -> None:
    prompts = [tokens(f"one bad {arm} {i}", 2 * CHUNK + 30) for i in range(4)]
    keys = [vllm.prime(prompt, 2) for prompt in prompts]
    truths = [vllm.send("recompute", prompt, 8).tokens for prompt in prompts]
    layout, path = layout_of(vllm), path_of(vllm, keys[1][0])
    path.write_bytes(path.read_bytes()[: layout.offset(layout.geometry.layers - 1)])
    labels = [vllm.label() for _ in prompts]
    outcomes = vllm.send_all([(arm, prompt, 8, label) for prompt, label in zip(prompts, labels, strict=True)])
    assert [(outcome.error, outcome.tokens) for outcome in outcomes] == [("", truth) for truth in truths]
    assert [any(load["failed_blocks"] for load in vllm.loads(label)) for label in labels] == [False, True, False, False]


@pytest.mark.parametrize("arm", ["chunkwise:pool=0", "layerwise:depth=2"])
@pytest.mark.parametrize("lie", ["zeros", "another prompt's KV"])
def test_a_store_that_lies_is_caught_by_the_proof(vllm: Running, arm: str, lie: str) -> None:
    """The header is right, the bytes are not: only the digests taken when the chunk was saved can tell."""
    prompt, victim = tokens(f"lie {arm} {lie}", 2 * CHUNK + 30), tokens("victim", 2 * CHUNK + 30)
    keys, other = vllm.prime(prompt, 2), vllm.prime(victim, 2)
    layout = layout_of(vllm)
    size = layout.total_bytes - layout.header_bytes
    body = bytes(size) if lie == "zeros" else path_of(vllm, other[1]).read_bytes()[layout.header_bytes :]
    width, stride = layout.geometry.layer_bytes, layout.layer_stride
    sums = [checksum(body[i * stride : i * stride + width]) for i in range(layout.geometry.layers)]
    path_of(vllm, keys[1]).write_bytes(encode_header(layout, ChunkKey(keys[1]), sums) + body)
    label = vllm.label()
    outcome = vllm.send(arm, prompt, 8, label=label)
    assert outcome.cached_tokens == 2 * CHUNK
    reason = load_reason(vllm.loads(label), 2 * CHUNK, True, vllm.session.log.saved)
    assert reason.startswith("the KV in the paged cache is not what was saved")
    assert outcome.tokens != vllm.send("recompute", prompt, 8).tokens


def test_a_request_with_an_unknown_arm_is_computed(vllm: Running) -> None:
    prompt = tokens("unknown arm", CHUNK + 10)
    vllm.prime(prompt, 1)
    outcome = vllm.send("no-such-arm", prompt)
    assert (outcome.cached_tokens, outcome.error) == (0, "")


def test_the_arms_of_this_file_are_parsed_as_meant() -> None:
    assert {parse_arm(arm).engine.name for arm in ARMS} == {"chunkwise", "layerwise"}
