"""The experiment, both halves of the connector, engines and a real store together, over KV that shows in the tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, Lab, lab
from keeping_engine import KeepingVllm, keeping, keeping_lab

from harness.core.chunks import ALIGNMENT
from harness.core.errors import ChunkMissing, StoreUnavailable, VoidRuns
from harness.stores.base import Read
from harness.stores.files.disk import DiskStore

__all__ = ["keeping", "keeping_lab", "lab"]

ARMS = [CHUNKWISE, "chunkwise:pool=2,batch=2", LAYERWISE, "layerwise:depth=1,groups=2,loops=1,readers=2"]


def is_timed(params: Mapping[str, Any]) -> bool:
    return bool(params["label"]) and not params["label"].startswith("correctness")


def objects(lab: Lab) -> list[Path]:
    return sorted((lab.home / "kv").rglob("*.kv"))


def test_every_loading_arm_gives_the_tokens_of_recompute_and_floor_does_not(keeping_lab: Lab) -> None:
    run = keeping_lab.measure(pairs=2, arms=ARMS, correctness_prompts=2)
    assert (run.meta["status"], run.meta["correctness"]["status"], run.void_runs) == ("complete", "passed", {})
    digests = {str(arm): rows.set_index("prompt")["output_digest"] for arm, rows in run.requests.groupby("arm")}
    right = digests["recompute"][~digests["recompute"].index.duplicated()]
    for arm in ARMS:
        assert (digests[arm] == right.reindex(digests[arm].index)).all(), arm
    assert (digests["floor"] != right.reindex(digests["floor"].index)).all()
    assert run.requests[run.requests["arm"].isin(ARMS)].groupby("prompt")["kv_digest"].nunique().eq(1).all()
    assert keeping_lab.left() == set()


def test_time_columns_add_up_and_counters_are_the_engines(keeping_lab: Lab) -> None:
    rows = keeping_lab.measure(pairs=2).requests
    parts = rows[["queue_s", "lookup_s", "stall_s", "compute_s"]].fillna(0).sum(axis=1)
    assert (parts - rows["server_ttft_s"]).abs().max() < 1e-9
    operations = {str(arm): set(some) for arm, some in rows.groupby("arm")["operations"]}
    assert operations[CHUNKWISE] == {2}  # two chunks
    assert operations[LAYERWISE] == {6}  # two chunks of three layers
    assert rows[rows["arm"].isin([CHUNKWISE, LAYERWISE])]["bytes"].nunique() == 1


@pytest.mark.parametrize("cache_state", ["primed", "natural"])
def test_a_layer_an_object_gives_the_same_tokens_hits_and_bytes(keeping_lab: Lab, cache_state: str) -> None:
    seen = []
    for layout in ("chunk", "layer"):
        keeping_lab.home = keeping_lab.home / layout  # its own run, its own store
        keeping_lab.home.mkdir()
        run = keeping_lab.measure(pairs=1, layout=layout, cache_state=cache_state, arms=ARMS)
        assert (run.meta["status"], run.meta["correctness"]["status"], run.void_runs) == ("complete", "passed", {})
        assert keeping_lab.left() == set()
        seen.append(run.requests[run.requests["arm"].isin(ARMS)].set_index(["arm", "prompt"]).sort_index())
    chunk, layer = seen
    same = ["hit_tokens", "bytes", "operations", "output_digest"]
    assert chunk[same].equals(layer[same])
    loaded = chunk["hit_tokens"] > 0
    assert (layer["keys"][loaded] == 6).all()  # two chunks of three layers, however they are read
    assert set(chunk["keys"][loaded & (chunk.index.get_level_values("arm") == CHUNKWISE)]) == {2}


def test_natural_runs_load_what_their_own_earlier_requests_saved(keeping_lab: Lab) -> None:
    run = keeping_lab.measure(pairs=2, cache_state="natural")
    assert (run.meta["status"], run.void_runs) == ("complete", {})
    rows = run.requests[run.requests["arm"] != "recompute"]
    assert rows["hit_tokens"].tolist() == [0, 0, 32, 32] * 4
    assert keeping_lab.left() == set()


def behind_the_header(lie: str) -> Any:
    """A ``read`` that puts zeros, or the bytes of the store's first object, wherever a chunk's data should be."""
    read = DiskStore.read

    def lying(store: DiskStore, reads: Sequence[Read]) -> None:
        read(store, reads)
        for item in reads:
            position = item.offset
            for part in item.out:
                if position >= ALIGNMENT:
                    other = bytearray(part.nbytes)
                    if lie == "another prompt's":
                        first = next(key for key in sorted(store.keys()) if key != item.key)
                        read(store, [Read(first, position, (memoryview(other),))])
                    part[:] = other
                position += part.nbytes

    return lying


@pytest.mark.parametrize("lie", ["zeros", "another prompt's"])
def test_a_store_that_lies_in_a_timed_run_voids_it(
    keeping_lab: Lab, keeping: KeepingVllm, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    lying, honest = behind_the_header(lie), DiskStore.read

    def switch(params: Mapping[str, Any]) -> None:
        monkeypatch.setattr(DiskStore, "read", lying if params["label"].startswith("1/") else honest)

    keeping.before = switch
    run = keeping_lab.measure(pairs=2)
    assert run.meta["status"] == "void"
    assert list(run.void_runs) == [1]
    assert run.void_runs[1].startswith("the KV in the paged cache is not what was saved: layer ")
    assert 1 not in set(run.counted["run"]) and len(run.counted) == len(run.requests) - 4


def test_a_store_that_lies_in_the_correctness_pass_ends_it(
    keeping_lab: Lab, keeping: KeepingVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = behind_the_header("zeros")

    def switch(params: Mapping[str, Any]) -> None:
        if params["label"].startswith("correctness"):
            monkeypatch.setattr(DiskStore, "read", lying)

    keeping.before = switch
    with pytest.raises(VoidRuns, match=r"nothing was timed: .* the KV in the paged cache is not what was saved"):
        keeping_lab.measure()
    assert len(keeping_lab.run().requests) == 0


@pytest.mark.parametrize(
    ("damage", "policy", "column", "reason"),
    [
        ("gone", "recompute", "void", "hit 0 tokens, but the workload implies 32"),
        ("cut", "recompute", "void", "4 blocks could not be loaded and were computed"),
        ("cut", "fail", "error", "the KV could not be loaded"),
    ],
)
def test_chunks_that_are_lost_while_measuring_void_the_run_that_needed_them(
    keeping_lab: Lab, keeping: KeepingVllm, damage: str, policy: str, column: str, reason: str
) -> None:
    def spoil(params: Mapping[str, Any]) -> None:
        if params["label"] == "3/0":
            for path in objects(keeping_lab):
                if damage == "gone":
                    path.unlink()
                else:
                    path.write_bytes(path.read_bytes()[:ALIGNMENT])

    keeping.before = spoil
    run = keeping_lab.measure(pairs=2, bounds=False, load_failure_policy=policy, correctness_prompts=0)
    assert (run.meta["status"], run.void_runs) == ("void", {3: reason})
    assert run.requests[run.requests["run"] == 3][column].tolist() == [reason] * 4
    computed = run.requests[run.requests["error"].isna()]
    assert computed.groupby("prompt")["output_digest"].nunique().eq(1).all()
    assert keeping_lab.left() == set()


def test_chunks_that_are_missing_before_a_run_end_the_experiment(keeping_lab: Lab, keeping: KeepingVllm) -> None:
    def lose(params: Mapping[str, Any]) -> None:
        if params["label"] == "1/3":
            objects(keeping_lab)[0].unlink()

    keeping.before = lose
    with pytest.raises(ChunkMissing, match=r"there is no object .* prime the store again"):
        keeping_lab.measure(pairs=2, correctness_prompts=0)
    assert keeping_lab.run().meta["status"] == "partial"
    assert keeping_lab.left() == set()


def test_measured_requests_never_save_not_even_what_they_had_to_compute(keeping_lab: Lab, keeping: KeepingVllm) -> None:
    sizes: list[int] = []

    def cut(params: Mapping[str, Any]) -> None:
        if params["label"] == "0/0":
            first = objects(keeping_lab)[0]
            first.write_bytes(first.read_bytes()[:ALIGNMENT])
        if is_timed(params):
            sizes.append(sum(path.stat().st_size for path in objects(keeping_lab)))

    keeping.before = cut
    keeping_lab.measure(pairs=2, correctness_prompts=0)
    assert len(set(sizes)) == 1


def test_a_disk_that_fills_up_while_priming_is_one_sentence_and_leaves_nothing(
    keeping_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = DiskStore.write, list[str]()

    def until_full(store: DiskStore, key: str, parts: Any) -> None:
        if len(written) == 3:
            raise StoreUnavailable("cannot write the object: No space left on device; free some space there")
        written.append(key)
        write(store, key, parts)

    monkeypatch.setattr(DiskStore, "write", until_full)
    with pytest.raises(StoreUnavailable, match=r"^chunks could not be saved: .*No space left on device; free some space there$"):
        keeping_lab.measure()
    assert (len(written), keeping_lab.left()) == (3, set())
    assert keeping_lab.run().meta["status"] == "partial"


def test_a_store_that_fails_while_measuring_is_one_error_and_no_group(keeping_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(store: DiskStore, keys: object) -> bool:
        raise StoreUnavailable("the disk is gone; look for it")

    monkeypatch.setattr(DiskStore, "evict_from_os_cache", gone)
    with pytest.raises(StoreUnavailable, match=r"^the disk is gone; look for it$"):
        keeping_lab.measure(page_cache="dropped", concurrency=2)
    assert keeping_lab.run().meta["ended_by"] == "the disk is gone; look for it"
