"""The scheduler's half of the connector: hits, loads, saves, over requests and steps shaped like vLLM's."""

import ast
import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
from standins import ARMS, CHUNK, PER, DictStore, Scheduler, keys_of, make_output, make_request, make_side, put

from harness.connector.step import Save
from harness.core.chunks import SKIP, LoadRequest
from harness.core.errors import StoreUnavailable

PROMPT = list(range(100, 100 + 4 * CHUNK + 3))
CHUNKWISE, LAYERWISE = ARMS[:2]


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def scheduler(store: DictStore) -> Scheduler:
    return Scheduler(make_side(store))


def hit_of(store: DictStore, tokens: list[int] | None = PROMPT, params: Any = None, local: int = 0, **more: Any) -> int:
    return make_side(store).matched_tokens(make_request("r", tokens, params, **more), local)


# -- hits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("present", range(5))
def test_the_hit_is_what_is_present(store: DictStore, present: int) -> None:
    put(store, keys_of(PROMPT)[:present])
    assert hit_of(store) == present * CHUNK


def test_a_gap_ends_the_hit(store: DictStore) -> None:
    keys = keys_of(PROMPT)
    put(store, [keys[0], keys[2], keys[3]])
    assert hit_of(store) == CHUNK


@pytest.mark.parametrize(
    ("length", "hit"), [(CHUNK - 1, 0), (CHUNK, 0), (CHUNK + 1, CHUNK), (2 * CHUNK, CHUNK), (2 * CHUNK + 1, 2 * CHUNK)]
)
def test_the_whole_prompt_is_never_a_hit(store: DictStore, length: int, hit: int) -> None:
    put(store, keys_of(PROMPT))
    assert hit_of(store, PROMPT[:length]) == hit


@pytest.mark.parametrize(("cap", "hit"), [(0, 0), (CHUNK - 1, 0), (CHUNK, 1), (3 * CHUNK - 1, 2), (10_000, 4)])
def test_max_hit_tokens_caps_in_whole_chunks(store: DictStore, cap: int, hit: int) -> None:
    put(store, keys_of(PROMPT))
    assert hit_of(store, params={"max_hit_tokens": cap}) == hit * CHUNK


@pytest.mark.parametrize("tokens", [None, [], [1]])
def test_a_prompt_without_tokens_hits_nothing(store: DictStore, tokens: list[int] | None) -> None:
    assert hit_of(store, tokens) == 0


def test_asking_again_changes_nothing_and_asks_the_store_once(store: DictStore, scheduler: Scheduler) -> None:
    keys = keys_of(PROMPT)
    put(store, keys[:3])
    request = scheduler.add(make_request("r", PROMPT)).request
    assert [scheduler.side.matched_tokens(request, 0) for _ in range(3)] == [3 * CHUNK] * 3
    put(store, keys)
    assert scheduler.side.matched_tokens(request, 0) == 3 * CHUNK
    assert store.lookups == [tuple(keys)]
    step = scheduler.step({"r": 8})
    assert [load.request for load in step.loads] == [LoadRequest("r", tuple(keys[:3]), tuple(range(6)))]


def test_recompute_is_granted_nothing_and_asks_nobody(store: DictStore) -> None:
    put(store, keys_of(PROMPT))
    assert hit_of(store, params={"arm": "recompute"}) == 0
    assert store.lookups == []


def test_floor_is_granted_the_hit(store: DictStore) -> None:
    put(store, keys_of(PROMPT)[:2])
    assert hit_of(store, params={"arm": "floor"}) == 2 * CHUNK


def test_namespaces_and_salts_isolate(store: DictStore) -> None:
    put(store, keys_of(PROMPT, "a"))
    put(store, keys_of(PROMPT, "a", salt="user1")[:2])
    assert hit_of(store) == 0
    assert hit_of(store, params={"namespace": "b"}) == 0
    assert hit_of(store, params={"namespace": "a"}) == 4 * CHUNK
    assert hit_of(store, params={"namespace": "a"}, cache_salt="user1") == 2 * CHUNK
    assert hit_of(store, params={"namespace": "a"}, cache_salt="user2") == 0


def test_the_connectors_namespace_holds_unless_the_request_names_one(store: DictStore) -> None:
    put(store, keys_of(PROMPT, "own"))
    side = make_side(store, namespace="own")
    assert side.matched_tokens(make_request("a", PROMPT), 0) == 4 * CHUNK
    assert side.matched_tokens(make_request("b", PROMPT, {"namespace": ""}), 0) == 0


def test_a_chunk_counts_only_where_every_rank_has_it(store: DictStore) -> None:
    keys = keys_of(PROMPT)
    put(store, keys[:3], world=2)
    del store.data[f"{keys[2]}-r1of2"]
    side = make_side(store, world=2)
    assert side.matched_tokens(make_request("r", PROMPT), 0) == 2 * CHUNK
    assert store.lookups == [tuple(f"{key}-r{rank}of2" for key in keys for rank in (0, 1))], "a round trip, whatever the ranks"


@pytest.mark.parametrize(
    "more",
    [{"mm_features": ["an image"]}, {"lora_request": "an adapter"}, {"prompt_embeds": "a tensor"}],
    ids=lambda more: next(iter(more)),
)
def test_inputs_beyond_the_tokens_keep_a_request_away_from_the_store(
    store: DictStore, scheduler: Scheduler, more: dict[str, Any]
) -> None:
    """Two images have the same placeholder tokens: their KV must not meet under one key."""
    put(store, keys_of(PROMPT))
    scheduler.add(make_request("r", PROMPT, **more))
    step = scheduler.step({"r": len(PROMPT)})
    assert (step.loads, step.saves, store.lookups) == ([], [], [])


def test_a_lookup_that_fails_is_a_miss(store: DictStore, caplog: pytest.LogCaptureFixture) -> None:
    put(store, keys_of(PROMPT))
    store.broken = StoreUnavailable("the server is gone")
    with caplog.at_level(logging.ERROR, logger="vllm.ttft"):
        assert hit_of(store) == 0
    assert "counts as a miss: the server is gone" in caplog.text


@pytest.mark.parametrize(
    "params", [{"arm": "nonsense"}, {"max_hit_tokens": -5}, {"save": "what"}, ["a", "list"], "text", 7, {"label": None}]
)
def test_wrong_parameters_never_take_the_server_down(
    store: DictStore, scheduler: Scheduler, params: Any, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, keys_of(PROMPT))
    scheduler.add(make_request("r", PROMPT, params))
    with caplog.at_level(logging.ERROR, logger="vllm.ttft"):
        step = scheduler.step({"r": len(PROMPT)})
    assert "request r is computed without the store" in caplog.text
    assert scheduler.live["r"].computed == len(PROMPT)
    assert (step.loads, step.saves) == ([], [])


# -- loads ---------------------------------------------------------------------------------------


def test_a_hit_is_loaded_once_by_its_arm(store: DictStore, scheduler: Scheduler) -> None:
    keys = keys_of(PROMPT)
    put(store, keys[:2])
    scheduler.add(make_request("r", PROMPT, {"arm": LAYERWISE, "label": "x"}))
    first, second = scheduler.step({"r": 10}), scheduler.step({"r": 5})
    assert [(load.arm, load.label) for load in first.loads] == [(LAYERWISE, "x")]
    assert first.loads[0].request == LoadRequest("r", tuple(keys[:2]), (0, 1, 2, 3))
    assert second.loads == []


def test_requests_of_one_step_are_loaded_by_their_own_arms(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT))
    for name, arm in zip("abcd", ARMS, strict=True):
        scheduler.add(make_request(name, PROMPT, {"arm": arm}))
    step = scheduler.step(dict.fromkeys("abcd", 3))
    assert [(load.request.request, load.arm) for load in step.loads] == [("a", CHUNKWISE), ("b", LAYERWISE), ("d", "floor")]
    blocks = [block for load in step.loads for block in load.request.blocks]
    assert len(set(blocks)) == len(blocks) == 3 * 4 * PER


@pytest.mark.parametrize("local", range(1, 4 * PER))
def test_blocks_of_vllms_own_prefix_cache_are_left_alone(store: DictStore, scheduler: Scheduler, local: int) -> None:
    """Also where they end in the middle of a chunk."""
    keys = keys_of(PROMPT)
    put(store, keys)
    scheduler.add(make_request("r", PROMPT))
    step = scheduler.step({"r": 3}, local={"r": range(300, 300 + local)})
    (load,) = step.loads
    first = local // PER
    assert load.request.chunks == tuple(keys[first:])
    filled = local % PER
    assert load.request.blocks == (SKIP,) * filled + tuple(scheduler.live["r"].blocks[first * PER + filled : 4 * PER])
    assert scheduler.live["r"].computed == 4 * CHUNK + 3


def test_a_local_hit_beyond_the_stored_one_leaves_nothing_to_load(store: DictStore, scheduler: Scheduler) -> None:
    put(store, keys_of(PROMPT)[:2])
    scheduler.add(make_request("r", PROMPT))
    step = scheduler.step({"r": 3}, local={"r": range(300, 306)})
    assert step.loads == []
    assert [save.blocks for save in step.saves] == [(304, 305)]


# -- saves ---------------------------------------------------------------------------------------


def test_each_chunk_is_saved_once_as_soon_as_it_is_complete(scheduler: Scheduler) -> None:
    keys = keys_of(PROMPT)
    scheduler.add(make_request("r", PROMPT))
    saved = [[save.key for save in scheduler.step({"r": count}).saves] for count in (7, 1, 8, 12, len(PROMPT) - 28, 1, 1)]
    assert saved == [[], [keys[0]], [keys[1]], [keys[2]], [keys[3]], [], []]


def test_output_tokens_are_not_saved(scheduler: Scheduler) -> None:
    scheduler.add(make_request("r", PROMPT))
    steps = [scheduler.step({"r": len(PROMPT)}), *(scheduler.step({"r": 1}) for _ in range(2 * CHUNK))]
    assert [len(step.saves) for step in steps] == [4] + [0] * 2 * CHUNK
    assert steps[-1].idle


def test_a_save_names_the_chunks_own_blocks(scheduler: Scheduler) -> None:
    scheduler.add(make_request("other", PROMPT, {"save": False}))
    scheduler.add(make_request("r", PROMPT))
    saves = [save for count in (10, 10, 10) for save in scheduler.step({"other": 6, "r": count}).saves]
    blocks = scheduler.live["r"].blocks
    assert saves == [Save("r", key, (blocks[2 * i], blocks[2 * i + 1])) for i, key in enumerate(keys_of(PROMPT)[:3])]
    assert blocks != sorted(range(blocks[0], blocks[0] + len(blocks))), "the blocks lie in one row, so this shows little"


def test_only_what_the_hit_left_out_is_saved(store: DictStore, scheduler: Scheduler) -> None:
    keys = keys_of(PROMPT)
    put(store, keys[:3])
    scheduler.add(make_request("r", PROMPT, {"max_hit_tokens": 2 * CHUNK}))
    assert [save.key for save in scheduler.step({"r": 2 * CHUNK + 3}).saves] == keys[2:]


@pytest.mark.parametrize(("arm", "saved"), [(CHUNKWISE, 4), (LAYERWISE, 4), ("recompute", 4), ("floor", 0)])
def test_floor_never_saves(scheduler: Scheduler, arm: str, saved: int) -> None:
    scheduler.add(make_request("r", PROMPT, {"arm": arm, "save": True}))
    assert len(scheduler.step({"r": len(PROMPT)}).saves) == saved


@pytest.mark.parametrize("connector", [True, False])
@pytest.mark.parametrize("request_save", [None, True, False])
def test_the_request_decides_whether_it_is_saved(store: DictStore, connector: bool, request_save: bool | None) -> None:
    scheduler = Scheduler(make_side(store, save=connector))
    scheduler.add(make_request("r", PROMPT, {"save": request_save}))
    wanted = connector if request_save is None else request_save
    assert len(scheduler.step({"r": len(PROMPT)}).saves) == (4 if wanted else 0)


def test_the_stand_ins_have_vllms_names() -> None:
    """Read from vLLM's source, since importing it takes long."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed")
    tree = ast.parse((Path(spec.origin).parent / "v1/core/sched/output.py").read_text(encoding="utf-8"))
    fields = {
        node.name: {item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)}
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    output = make_output()
    assert set(vars(output)) <= fields["SchedulerOutput"]
    assert set(vars(output.scheduled_cached_reqs)) <= fields["CachedRequestData"]
    assert {"req_id", "block_ids", "num_computed_tokens"} <= fields["NewRequestData"]
    request = (Path(spec.origin).parent / "v1/request.py").read_text(encoding="utf-8")
    assert [name for name in vars(make_request("r", PROMPT)) if f"self.{name}" not in request] == []
