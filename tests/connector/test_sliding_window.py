"""A sliding window in all layers: vLLM frees the blocks behind it, so they are neither loaded, saved nor proven."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standins import BLOCK, CHUNK, PER, DictStore, keys_of, make_output, make_request, make_side, put
from working import A, B, C, Maker, load, make, store  # noqa: F401

from harness.connector.scheduler_side import SchedulerSide
from harness.connector.settings import RequestParams
from harness.connector.step import Step
from harness.connector.tracked import Tracked
from harness.core.chunks import SKIP, ChunkKey
from harness.experiment.rows import load_reason
from harness.testing.small_kv import WHOLE_PAGES

NULL = 0
"""vLLM's block of nothing, which takes the place of those that are freed."""


def windowed(window: int, steps: int = 1) -> tuple[SchedulerSide, DictStore]:
    plain, store = make_side(DictStore()), DictStore()
    side = SchedulerSide(plain._settings, plain._arms, store, plain._identity, PER, 1, window, steps)
    return side, store


def start(side: SchedulerSide, prompt: list[int], blocks: list[int], scheduled: int, **params: object) -> Step:
    request = make_request("r", prompt, {"label": "x", **params})
    granted = side.matched_tokens(request, 0)
    side.allocated(request, granted)
    new = SimpleNamespace(req_id="r", block_ids=(blocks,), num_computed_tokens=granted)
    return side.plan(make_output([new], scheduled={"r": scheduled}))


def later(side: SchedulerSide, computed: int, scheduled: int) -> Step:
    return side.plan(make_output(cached=[("r", None, computed)], scheduled={"r": scheduled}))


def test_only_what_the_window_reaches_is_loaded_and_proven() -> None:
    prompt = list(range(8 * CHUNK + 2))
    side, store = windowed(window=2 * CHUNK + BLOCK)
    keys = keys_of(prompt)
    put(store, keys)
    # 64 tokens hit; the next token sees the 20 tokens from 45 on: 11 blocks of 4 are behind the window.
    blocks = [NULL] * 11 + list(range(100, 105)) + [200]
    step = start(side, prompt, blocks, 2)
    assert [chunk for each in step.loads for chunk in each.request.chunks] == keys[5:8]
    assert step.loads[0].request.blocks == (SKIP, 100, 101, 102, 103, 104)
    assert NULL not in step.loads[0].request.blocks
    proof = later(side, len(prompt), 1)
    assert (proof.prove, proof.freed) == (["r"], {"r": 11 - 5 * PER})


def test_a_chunk_that_vllm_has_begun_to_free_is_not_saved() -> None:
    """Chunked prefill: the first chunk's blocks are freed before the second one is whole."""
    side, _ = windowed(window=BLOCK)
    prompt = list(range(2 * CHUNK))
    first = start(side, prompt, [1, 2], BLOCK + 2)
    assert first.saves == []
    second = side.plan(make_output(cached=[("r", ([3, 4],), BLOCK + 2)], scheduled={"r": 2 * CHUNK - BLOCK - 2}))
    assert [save.key for save in second.saves] == keys_of(prompt)[:2]
    side, _ = windowed(window=BLOCK)
    start(side, prompt, [1, 2], 2 * BLOCK - 1)
    second = side.plan(make_output(cached=[("r", ([3, 4],), 2 * BLOCK - 1)], scheduled={"r": 2 * CHUNK - 2 * BLOCK + 1}))
    assert [save.key for save in second.saves] == keys_of(prompt)[1:2], "its first block is another request's by now"


@given(st.integers(1, 60), st.integers(0, 200))
def test_what_is_freed_is_what_no_coming_token_sees(window: int, computed: int) -> None:
    tracked = Tracked(RequestParams(), [], window=window)
    freed = tracked.freed(computed, BLOCK)
    seen = range(max(0, computed - window + 1), computed + 1)
    assert all(block * BLOCK + i not in seen for block in range(freed) for i in range(BLOCK))
    assert any(freed * BLOCK + i in seen for i in range(BLOCK)), "the next block is needed still"


def test_without_a_window_nothing_is_ever_freed() -> None:
    assert Tracked(RequestParams(), []).freed(10**6, BLOCK) == 0


def test_the_worker_digests_what_is_left(make: Maker, tmp_path: Path) -> None:
    one = make()
    per = WHOLE_PAGES.chunk_blocks
    blocks = list(range(3 * per))
    one.save((A, blocks[:per]), (B, blocks[per : 2 * per]), (C, blocks[2 * per :]))
    one.step([load("chunkwise:pool=0", "r", [A, B, C], blocks, label="x")])
    one.step(prove=["r"], freed={"r": 1})
    loads = one.trace.loads("x")
    keys: list[ChunkKey] = [A, B, C]
    assert {key for key, _, _ in loads[0]["proof"]} == {B, C}
    assert {layer for _, layer, _ in loads[0]["proof"]} == set(range(one.cache.geometry.layers))
    assert load_reason(loads, 1, True, one.trace.saved, keys, behind=[A]) == ""
    assert load_reason(loads, 1, True, one.trace.saved, keys) != "", "without a window each chunk has to be sampled"
    assert load_reason(loads, 1, True, one.trace.saved, [B, C, "d"], behind=[B]) != ""


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_proof_waits_until_the_tokens_have_left(steps: int) -> None:
    side, store = windowed(0, steps)
    prompt = list(range(2 * CHUNK + 1))
    put(store, keys_of(prompt))
    start(side, prompt, list(range(1, 8)), 1)
    proofs = [later(side, len(prompt) + i, 1).prove for i in range(steps + 2)]
    assert proofs == [["r"] if i == steps - 1 else [] for i in range(steps + 2)]


@pytest.mark.parametrize("depth", [1, 2])
def test_no_proof_lies_inside_a_ttft_under_a_queue_of_batches(depth: int) -> None:
    """vLLM's step_with_batch_queue: up to ``depth`` steps are begun before the tokens of the oldest are handed out."""
    side, store = windowed(0, depth)
    prompt = list(range(2 * CHUNK + 1))
    put(store, keys_of(prompt))
    happened: list[str] = []
    queue: list[str] = []
    for number in range(6):
        step = start(side, prompt, list(range(1, 8)), 1) if number == 0 else later(side, len(prompt) + number - 1, 1)
        happened += ["load"] * len(step.loads) + ["proof"] * len(step.prove)  # the worker runs in the engine core's thread
        queue.append(f"tokens of step {number}")
        if len(queue) == depth:
            happened.append(queue.pop(0))
    assert happened.index("load") < happened.index("tokens of step 0") < happened.index("proof")
