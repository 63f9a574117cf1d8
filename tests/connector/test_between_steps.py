"""Loads between steps: what the scheduler's half plans of them, and what the worker's half does."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from standins import CHUNK, PER, DictStore, keys_of, make_output, make_request, make_side, put
from working import A, B, Bench, Maker, Wrapped, lines, load, make, store  # noqa: F401  fixtures among them

from harness.connector.scheduler_side import SchedulerSide
from harness.connector.step import Load, Save, Step
from harness.core.chunks import SKIP, LoadRequest
from harness.core.errors import StoreUnavailable
from harness.engines.base import Choice
from harness.engines.floor import Floor
from harness.experiment.rows import timings
from harness.replay.outcome import Outcome
from harness.stores.base import Read, Store
from harness.testing.engines import within

ARM = "deferred:release=2"
PROMPT = list(range(100, 100 + 4 * CHUNK + 3))
BLOCKS = list(range(30, 30 + 4 * PER))

# -- the scheduler's half --------------------------------------------------------------------------


def side_of(arm: str = ARM, chunks: int = 4) -> SchedulerSide:
    """Beside a store that holds so many chunks of PROMPT."""
    kept = DictStore()
    put(kept, keys_of(PROMPT)[:chunks])
    return make_side(kept, arms=(arm, "recompute"))


def begin(side: SchedulerSide, local: int = 0, **params: Any) -> tuple[Any, Step]:
    """vLLM asks, reserves blocks, and plans a step of other requests."""
    request = make_request("r", PROMPT, {"label": "x", **params})
    hit = side.matched_tokens(request, local)
    assert hit == 4 * CHUNK - local
    assert side.between_steps(request)
    side.allocated(request, hit, BLOCKS)
    return request, side.plan(make_output())


def compute(side: SchedulerSide, request: Any, computed: int = 4 * CHUNK, more: Sequence[int] = (99,)) -> Step:
    """The step in which the request is new."""
    side.allocated(request, 0)
    new = SimpleNamespace(req_id="r", block_ids=([*BLOCKS, *more],), num_computed_tokens=computed)
    return side.plan(make_output([new], scheduled={"r": len(PROMPT) - computed}))


def test_a_load_begins_before_its_request_computes_and_is_proven_after() -> None:
    side = side_of()
    request, step = begin(side, deadline_ms=70)
    assert step.begins == [Load(ARM, LoadRequest("r", tuple(keys_of(PROMPT)), tuple(BLOCKS), deadline_ms=70), "x")]
    assert (step.fresh, step.loads, step.joins, step.idle) == (BLOCKS, [], [], True)
    assert side.plan(make_output()).begins == []
    step = compute(side, request)
    assert (step.joins, step.loads, step.begins, step.fresh) == (["r"], [], [], [99])
    assert [(note.hit_tokens, note.outside) for note in step.notes] == [(4 * CHUNK, True)]
    step = side.plan(make_output(cached=[("r", None, len(PROMPT))], scheduled={"r": 1}))
    assert (step.joins, step.prove) == ([], ["r"])


def test_blocks_of_vllms_own_cache_are_neither_loaded_nor_new() -> None:
    _, step = begin(side_of(), local=CHUNK + CHUNK // PER)
    [planned] = step.begins
    assert planned.request.chunks == tuple(keys_of(PROMPT)[1:])
    assert planned.request.blocks == (SKIP, *BLOCKS[PER + 1 :])
    assert step.fresh == BLOCKS[PER + 1 :]


def test_a_request_that_ends_during_its_load_is_dropped() -> None:
    side = side_of()
    request, _ = begin(side)
    side.finished(request)
    step = side.plan(make_output())
    assert (step.drops, step.forget) == (["r"], ["r"])
    assert side.plan(make_output()).drops == []


def test_a_request_that_has_computed_is_not_dropped() -> None:
    side = side_of()
    request, _ = begin(side)
    compute(side, request)
    side.finished(request)
    assert side.plan(make_output()).drops == []


def test_nothing_that_failed_is_granted_again() -> None:
    """vLLM asks anew for a request whose first block failed, and would for ever."""
    side = side_of()
    request, _ = begin(side)
    side.load_errors({BLOCKS[0], BLOCKS[1]})
    assert side.matched_tokens(request, 0) == 0
    assert side.plan(make_output()).drops == ["r"], "other ranks may still be loading it"
    step = compute(side, request, computed=0)
    assert (step.joins, step.begins, step.loads) == ([], [], [])
    assert [note.hit_tokens for note in step.notes] == [4 * CHUNK], "that is what the lookup granted"
    assert [(save.key, save.replace) for save in step.saves] == [(key, True) for key in keys_of(PROMPT)]
    side.finished(request)
    assert side.plan(make_output()).forget == ["r"]


def test_what_came_before_a_failure_counts_and_is_not_proven() -> None:
    side = side_of()
    request, _ = begin(side)
    side.load_errors({BLOCKS[2 * PER]})
    step = compute(side, request, computed=2 * CHUNK)
    assert (step.joins, step.drops, step.fresh) == (["r"], [], [*BLOCKS[2 * PER :], 99])
    assert [save.key for save in step.saves] == keys_of(PROMPT)[2:]
    assert side.plan(make_output(cached=[("r", None, len(PROMPT))], scheduled={"r": 1})).prove == []


def test_after_a_preemption_it_loads_between_steps_again() -> None:
    side = side_of()
    request, _ = begin(side)
    compute(side, request)
    assert side.matched_tokens(request, 0) == 4 * CHUNK
    side.allocated(request, 4 * CHUNK, BLOCKS[::-1])
    step = side.plan(make_output())
    assert [one.request.blocks for one in step.begins] == [tuple(BLOCKS[::-1])]
    side.allocated(request, 0)
    resumed = make_output(cached=[("r", ([*BLOCKS[::-1], 7],), 4 * CHUNK)], resumed=["r"], scheduled={"r": 4})
    assert side.plan(resumed).joins == ["r"]


def test_an_engine_that_can_only_load_within_steps_does_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Floor, "choose", lambda options, offer: Choice(offer.chunks, between_steps=True))
    side, request = side_of("floor"), make_request("r", PROMPT)
    assert side.matched_tokens(request, 0) == 4 * CHUNK
    assert not side.between_steps(request)


def test_a_miss_and_a_request_that_is_unknown_load_nothing_between_steps() -> None:
    side, request = side_of(chunks=0), make_request("r", PROMPT)
    assert side.matched_tokens(request, 0) == 0
    assert not side.between_steps(request)
    assert not side.between_steps(make_request("other", PROMPT))


# -- the worker's half -------------------------------------------------------------------------------


def until_released(one: Bench, count: int = 1) -> set[str]:
    found: set[str] = set()

    def ask() -> None:
        while len(found) < count:
            one.step()
            found.update(one.worker.released())
            time.sleep(0.001)

    within(ask)
    return found


def test_a_load_between_steps_is_in_place_logged_and_proven(make: Maker) -> None:
    """Beside steps of other requests, whose spans and waits are not its own."""
    one = make()
    one.save((A, (3, 1)), (B, (7, 8)))
    wanted = one.contents((3, 1, 7, 8))
    one.step(begins=[load(ARM, "r", (A, B), (30, 24, 26, 29), "x")])
    one.step([load("layerwise:depth=2", "other", (A,), (12, 13), "y")])
    assert until_released(one) == {"r"}
    one.step(joins=["r"], prove=["other"])
    assert one.contents((30, 24, 26, 29)) == wanted
    assert one.trace.loads("x") == []
    one.step(prove=["r"])
    [record] = one.trace.loads("x")
    own = [span for span in record["spans"] if span[0] == "fetch"]
    layers = one.cache.geometry.layers
    assert (len(own), record["operations"], record["keys"]) == (layers, layers, layers), "two chunks by groups of two layers"
    assert (record["stall_s"], record["failed_blocks"]) == (0.0, 0)
    assert {key for key, *_ in record["proof"]} == {A, B}
    [other] = one.trace.loads("y")
    assert other["keys"] == layers
    assert record["start_s"] == min(span[2] for span in own) <= record["end_s"] == max(span[3] for span in own)


@pytest.mark.parametrize("traced", [True, False])
def test_what_fails_is_told_with_the_release_and_logged_once(
    make: Maker,
    store: Store,
    tmp_path: Path,
    traced: bool,
) -> None:
    one = make(traced=traced)
    one.save((A, (3, 1)), (B, (7, 8)))
    store.delete([B])
    one.step(begins=[load(ARM, "r", (A, B), (30, 24, 26, 29), "x")])
    within(lambda: one.worker.release([30]))
    assert one.worker.released() == {"r"}
    assert one.worker.take_invalid() == {26, 29}
    assert one.step(joins=["r"]) == set()
    one.step(forget=["r"])
    assert [record["failed_blocks"] for record in lines(tmp_path) if record["kind"] == "load"] == [2] * traced
    assert one.worker._outside == {}


@pytest.mark.parametrize("traced", [True, False])
def test_a_dropped_load_is_released_and_leaves_its_blocks_alone(
    make: Maker,
    tmp_path: Path,
    traced: bool,
) -> None:
    """The step that drops it may give its blocks to somebody else."""
    one = make(traced=traced)
    one.save((A, (3, 1)), (B, (7, 8)))
    one.step(begins=[load(ARM, "r", (A, B), (30, 24, 26, 29), "x")])
    one.worker.before(Step(drops=["r"], fresh=[30, 24, 26, 29]))
    for rows in one.cache.rows.layers:
        rows[[30, 24, 26, 29]] = 7
    assert until_released(one) == {"r"}
    assert set(b"".join(one.contents((30, 24, 26, 29)))) == {7}
    assert len([record for record in lines(tmp_path) if record["kind"] == "load"]) == traced
    assert one.worker._outside == {}


class _Held(Wrapped):
    """Reads behind an offset wait, and fail then."""

    from_offset = 1 << 40
    go = threading.Event()

    def read(self, reads: Sequence[Read]) -> None:
        if any(read.offset >= self.from_offset for read in reads):
            self.go.wait(20)
            raise StoreUnavailable("the server is gone")
        super().read(reads)


def test_after_a_failure_in_its_step_nothing_is_saved(make: Maker, store: Store) -> None:
    """The request was released when its first layers were there; what it computed on the others is wrong."""
    held = _Held(store)
    one = make(held)
    one.save((A, (3, 1)))
    held.from_offset = one.layout.offset(one.cache.geometry.layers - 2)
    one.step(begins=[load(ARM, "r", (A,), (30, 24), "x")])
    assert until_released(one) == {"r"}
    assert one.worker.take_invalid() == set()
    threading.Timer(0.05, held.go.set).start()
    assert one.step(joins=["r"], saves=[Save("r", B, (30, 24))]) == {30, 24}
    assert B not in set(store.keys())
    assert one.trace.loads("x")[0]["stall_s"] > 0


# -- the row -------------------------------------------------------------------------------------------


def test_the_wait_between_steps_is_queue_and_no_stall() -> None:
    """vLLM counts a request as queued until it computes, and its lookup and its load lie in that time."""
    outcome = Outcome(0.0, first_s=0.8, last_s=0.8, tokens=(1,), queue_s=0.5, prefill_s=0.25)
    lookup = {"start_s": 0.0, "end_s": 0.125, "outside": True, "waited_s": 0.0}
    row = timings(outcome, lookup, [{"start_s": 0.2, "end_s": 0.45, "stall_s": 0.0625}])
    assert (row["queue_s"], row["lookup_s"], row["load_s"], row["stall_s"], row["compute_s"]) == (
        0.375,
        0.125,
        0.25,
        0.0625,
        0.1875,
    )


def test_the_lookup_in_the_span_log_says_that_it_lay_before_the_step(make: Maker) -> None:
    one, side = make(), side_of()
    request, _ = begin(side)
    one.step(notes=compute(side, request).notes)
    lookup = one.trace.lookup("x")
    assert lookup is not None
    assert (lookup["outside"], lookup["waited_s"], lookup["hit_tokens"]) == (True, 0.0, 4 * CHUNK)
