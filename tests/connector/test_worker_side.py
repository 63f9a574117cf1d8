"""The worker's half of the connector, with real engines over small tensors and files."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from working import LOADING, A, B, C, Maker, Wrapped, lines, load, make, store  # noqa: F401  fixtures among them

from harness.connector.step import Save
from harness.core.chunks import SKIP, LoadRequest
from harness.core.errors import StoreUnavailable
from harness.stores.base import Buffer, Store
from harness.testing.small_kv import PADDED, WHOLE_PAGES, Shape, chunk_key

# -- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [WHOLE_PAGES, PADDED], ids=["whole pages", "padded"])
@pytest.mark.parametrize("arm", LOADING)
def test_what_is_saved_comes_back(make: Maker, arm: str, shape: Shape) -> None:
    one = make(shape=shape)
    one.save((A, (3, 1)), (B, (7, 8)))
    wanted, others = one.contents((3, 1, 7, 8)), one.contents(range(24))
    assert one.contents((30, 24, 26, 29)) != wanted
    assert one.step([load(arm, "r", (A, B), (30, 24, 26, 29))]) == set()
    assert one.contents((30, 24, 26, 29)) == wanted
    assert one.contents(range(24)) == others


@pytest.mark.parametrize("arm", LOADING[::3])
def test_what_is_saved_behind_the_step_comes_back(make: Maker, arm: str, tmp_path: Path) -> None:
    """With other requests writing to the blocks as soon as they may."""
    one = make(save_threads=2)
    one.save((A, (3, 1)), (B, (7, 8)))
    wanted = one.contents((3, 1, 7, 8))
    assert one.worker._saver.settle(20)
    one.worker.release([3, 1, 7, 8])
    for rows in one.cache.rows.layers:
        rows[[3, 1, 7, 8]] = 0
    assert one.step([load(arm, "r", (A, B), (30, 24, 26, 29))]) == set()
    assert one.contents((30, 24, 26, 29)) == wanted
    assert sorted(record["key"] for record in lines(tmp_path) if record["kind"] == "save") == sorted([A, B])


def test_another_worker_of_the_same_shape_can_load_it(make: Maker, store: Store, tmp_path: Path) -> None:
    first, second = make(), make(traced=False)
    first.save((A, (3, 1)))
    wanted = first.contents((3, 1))
    second.step([load(LOADING[0], "r", (A,), (9, 10))])
    assert second.contents((9, 10)) == wanted


def test_arms_work_side_by_side_in_one_step(make: Maker) -> None:
    one = make()
    keys = [chunk_key(str(i)) for i in range(len(LOADING))]
    one.save(*((key, (2 * i, 2 * i + 1)) for i, key in enumerate(keys)))
    wanted = [one.contents((2 * i, 2 * i + 1)) for i in range(len(keys))]
    targets = [(12 + 2 * i, 13 + 2 * i) for i in range(len(keys))]
    loads = [load(arm, arm, (key,), blocks, arm) for arm, key, blocks in zip(LOADING, keys, targets, strict=True)]
    assert one.step([*loads, load("floor", "f", (A,), (30, 31), "floor")]) == set()
    assert [one.contents(blocks) for blocks in targets] == wanted
    assert [len(one.trace.loads(arm)) for arm in LOADING] == [0] * len(LOADING)
    one.step(prove=[*LOADING, "f"])
    records = [one.trace.loads(arm)[0] for arm in LOADING]
    assert [record["arm"] for record in records] == list(LOADING)
    assert all(record["keys"] >= 1 and record["bytes"] >= one.cache.geometry.chunk_bytes for record in records)


def test_engines_that_return_at_once_begin_before_those_that_block(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make()
    one.save((A, (0, 1)))
    begun: list[str] = []

    def noting(name: str, begin: Callable[[Sequence[LoadRequest]], None]) -> Callable[[Sequence[LoadRequest]], None]:
        def begin_load(batch: Sequence[LoadRequest]) -> None:
            begun.append(name)
            begin(batch)

        return begin_load

    for name, engine in one.worker._engines.items():
        begin = engine.begin_load
        monkeypatch.setattr(engine, "begin_load", noting(name, begin))
    one.step([load(arm, arm, (A,), (10, 11)) for arm in (LOADING[0], LOADING[3], LOADING[1], LOADING[5])])
    assert begun == [LOADING[3], LOADING[5], LOADING[0], LOADING[1]]


def test_skipped_blocks_are_left_alone(make: Maker) -> None:
    one = make()
    one.save((A, (0, 1)), (B, (2, 3)))
    wanted, before = one.contents((1, 2, 3)), one.contents((20,))
    one.step([load(LOADING[3], "r", (A, B), (SKIP, 21, 22, 23), "x")])
    assert one.contents((21, 22, 23)) == wanted
    assert one.contents((20,)) == before
    one.step(prove=["r"])
    proof = one.trace.loads("x")[0]["proof"]
    assert {key for key, _, _ in proof} == {B}, "a chunk that was not loaded whole proves nothing"


def test_a_rank_keeps_its_part_under_its_own_key(make: Maker, store: Store) -> None:
    one = make(rank=1, world=2)
    one.save((A, (0, 1)))
    wanted = one.contents((0, 1))
    assert list(store.keys()) == [f"{A}-r1of2"]
    assert one.step([load(LOADING[0], "r", (A,), (8, 9), "x")]) == set()
    assert one.contents((8, 9)) == wanted
    one.step(prove=["r"])
    (record,) = one.trace.loads("x")
    assert (record["rank"], {key for key, _, _ in record["proof"]}) == (1, {f"{A}-r1of2"})


def test_an_idle_step_touches_nothing(make: Maker, tmp_path: Path) -> None:
    one = make()
    before = one.contents(range(32))
    assert one.step() == set()
    assert (one.contents(range(32)), lines(tmp_path)) == (before, [])


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", LOADING)
def test_a_failed_load_is_reported_once_and_the_rest_is_there(make: Maker, arm: str) -> None:
    one = make()
    one.save((A, (0, 1)), (C, (2, 3)))
    wanted = one.contents((0, 1, 2, 3))
    assert one.step([load(arm, "r", (A, B, C), (8, 9, 10, 11, 12, 13))]) == {10, 11}
    assert one.worker.take_invalid() == set()
    assert one.contents((8, 9, 12, 13)) == wanted
    assert one.step([load(arm, "r", (A,), (8, 9))]) == set()


def test_nothing_is_saved_in_a_step_with_a_failed_load(make: Maker, store: Store) -> None:
    """Neither what was computed on the missing blocks, nor what may share them through vLLM's own prefix cache."""
    one = make()
    saves = [Save("r", B, (10, 11)), Save("other", C, (12, 13))]
    one.step([load(LOADING[0], "r", (A,), (8, 9))], saves)
    assert list(store.keys()) == []
    one.step(saves=saves)
    assert sorted(store.keys()) == sorted([B, C])


def test_nothing_is_saved_where_a_load_of_another_rank_failed(make: Maker, store: Store) -> None:
    """What this rank loaded is right, but what it computed went through the layers of the rank whose blocks are empty."""
    asked: list[bool] = []

    def another_failed(own: bool) -> bool:
        asked.append(own)
        return True

    one = make(rank=0, world=2, on_any_rank=another_failed)
    one.save((A, (0, 1)))
    assert one.step([load(LOADING[0], "r", (A,), (8, 9))], [Save("r", B, (10, 11))]) == set()
    one.step([load(LOADING[0], "q", (A,), (8, 9))])
    assert list(store.keys()) == [f"{A}-r0of2"]
    assert asked == [False], "ranks wait for each other only where there is something to load and something to save"


def test_a_chunk_that_is_there_is_not_written_again_unless_it_is_bad(make: Maker, store: Store, tmp_path: Path) -> None:
    one = make()
    store.write(A, [b"not a chunk"])
    one.save((A, (0, 1)))
    assert (store.size(A), lines(tmp_path)) == (11, [])
    assert one.step([load(LOADING[0], "r", (A,), (8, 9))]) == {8, 9}
    one.step(saves=[Save("r", A, (0, 1), replace=True)])
    assert one.step([load(LOADING[0], "r", (A,), (8, 9))]) == set()
    assert one.contents((8, 9)) == one.contents((0, 1))


class _FirstWins(Wrapped):
    """Keeps what it has."""

    replaces = False

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        if not self.exists([key]):
            super().write(key, parts)


def test_a_bad_chunk_is_mended_where_the_first_write_wins(make: Maker, store: Store) -> None:
    one = make(_FirstWins(store))
    store.write(A, [b"not a chunk"])
    one.step(saves=[Save("r", A, (0, 1), replace=True)])
    assert one.step([load(LOADING[0], "r", (A,), (8, 9))]) == set()
    assert one.contents((8, 9)) == one.contents((0, 1))


class _Refusing(Wrapped):
    """Takes no chunk whose key is in ``refused``; does not even say whether it has it where ``blind``."""

    refused: Sequence[str] = ()
    blind: bool = False

    def exists(self, keys: Sequence[str]) -> int:
        if self.blind and set(self.refused) & set(keys):
            raise StoreUnavailable("the store does not answer")
        return super().exists(keys)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        if key in self.refused:
            raise StoreUnavailable("no space left on the device")
        super().write(key, parts)


@pytest.mark.parametrize(("blind", "reason"), [(False, "no space left on the device"), (True, "the store does not answer")])
def test_a_save_that_fails_is_traced_and_the_others_go_on(
    make: Maker, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, blind: bool, reason: str
) -> None:
    refusing = _Refusing(store)
    refusing.refused, refusing.blind = (B,), blind
    one = make(refusing)
    with caplog.at_level(logging.ERROR, logger="vllm.ttft"):
        one.save((A, (0, 1)), (B, (2, 3)), (C, (4, 5)))
    assert sorted(store.keys()) == sorted([A, C])
    assert [record for record in lines(tmp_path) if record["kind"] == "save_error"] == [
        {"kind": "save_error", "key": B, "error": reason}
    ]
    assert one.trace.save_errors == [reason]
    assert reason in caplog.text
