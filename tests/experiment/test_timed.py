"""The timed runs: a proof that fails voids its run and says why, and each cache state is what it is called."""

import time
from collections.abc import Callable, Iterable

import pandas as pd
import pytest
from fake_engine import CHUNKWISE, LAYERWISE, Lab, Served, lab

from harness.results.side_tables import load_neighbours
from harness.stores.files.disk import DiskStore

__all__ = ["lab"]


def wrong_hit(served: Served) -> None:
    served.cached_tokens = 16


def no_hit_told(served: Served) -> None:
    served.cached_tokens = None


def wrong_kv(served: Served) -> None:
    key, layer, digest = served.proof[-1]
    served.proof[-1] = (key, layer, digest ^ 1)


def unknown_chunk(served: Served) -> None:
    served.proof[0] = ("e" * 32, *served.proof[0][1:])


def no_sample(served: Served) -> None:
    served.proof.clear()


def too_few_samples(served: Served) -> None:
    served.proof = [piece for piece in served.proof if piece[0] == served.proof[0][0]]


def no_load(served: Served) -> None:
    served.loads = False


def failed_blocks(served: Served) -> None:
    served.failed_blocks = 2


def other_tokens(served: Served) -> None:
    served.tokens[-1] ^= 1


VOIDED: list[tuple[Callable[[Served], None], str]] = [
    (wrong_hit, "hit 16 tokens, but the workload implies 32"),
    (no_hit_told, "hit None tokens, but the workload implies 32"),
    (wrong_kv, "the KV in the paged cache is not what was saved: layer 1 of chunk"),
    (unknown_chunk, "this experiment never saved it"),
    (no_sample, "no KV was sampled"),
    (too_few_samples, "1 chunks were loaded and sampled, not the 2 of the hit"),
    (no_load, "the connector recorded no load"),
    (failed_blocks, "2 blocks could not be loaded and were computed"),
    (other_tokens, f"other tokens than {CHUNKWISE} gave for the same prompt"),
]


def only(label: str, change: Callable[[Served], None]) -> Callable[[Served], None]:
    """``change`` for one request."""
    return lambda served: change(served) if served.label == label else None


@pytest.mark.parametrize(("change", "reason"), VOIDED, ids=[change.__name__ for change, _ in VOIDED])
def test_a_proof_that_fails_voids_its_run_and_says_why(lab: Lab, change: Callable[[Served], None], reason: str) -> None:
    lab.vllm.tamper = only("1/2", change)  # run 1 is layerwise: the first to answer after chunkwise
    run = lab.measure(pairs=2)
    assert run.meta["status"] == "void"
    bad = run.requests[run.requests["void"].notna()]
    assert bad[["run", "position", "arm"]].to_numpy().tolist() == [[1, 2, LAYERWISE]]
    assert reason in bad["void"].iloc[0]
    assert run.requests["error"].isna().all()
    assert [(entry["run"], entry["arm"], entry["prompt"]) for entry in run.meta["void_runs"]] == [(1, LAYERWISE, "g0p1")]
    assert reason in run.void_runs[1]
    assert list(run.void_runs) == [1]
    assert 1 not in set(run.counted["run"])
    assert len(run.counted) == len(run.requests) - 4
    assert lab.left() == set()


def test_a_request_that_fails_is_an_error_not_a_proof_that_failed(lab: Lab) -> None:
    lab.vllm.tamper = only("0/3", lambda served: setattr(served, "error", "ValueError: too long"))
    run = lab.measure(pairs=2)
    row = run.requests.iloc[3]
    assert row["error"] == "ValueError: too long"
    assert pd.isna(row["void"])
    assert pd.isna(row["ttft_s"])
    assert run.meta["status"] == "void"
    assert run.void_runs == {0: "ValueError: too long"}
    assert len(run.requests) == 8 * 4  # the experiment goes on


def test_a_failed_first_answer_is_no_witness(lab: Lab) -> None:
    """Tokens on wrong KV must not become what the honest arms are held against."""

    def lie(served: Served) -> None:
        wrong_kv(served)
        other_tokens(served)

    lab.vllm.tamper = only("0/0", lie)
    assert list(lab.measure(pairs=2).void_runs) == [0]


@pytest.mark.parametrize("arm", ["recompute", "floor"])
def test_the_bounds_are_not_held_against_the_other_arms_tokens(lab: Lab, arm: str) -> None:
    lab.vllm.tamper = lambda served: other_tokens(served) if served.arm == arm and served.timed else None
    assert lab.measure(pairs=2).meta["status"] == "complete"


def test_tokens_of_a_batch_are_not_compared(lab: Lab) -> None:
    lab.vllm.tamper = only("1/2", other_tokens)
    assert lab.measure(pairs=2, concurrency=2).meta["status"] == "complete"


def test_natural_runs_fill_a_namespace_each_and_delete_it(lab: Lab) -> None:
    at_start: dict[str, int] = {}

    def look(served: Served) -> None:
        if served.label.endswith("/0") and served.timed:
            at_start[served.label] = len(lab.left())

    lab.vllm.tamper = look
    run = lab.measure(pairs=2, cache_state="natural")
    assert run.meta["status"] == "complete"
    assert set(run.requests["arm"]) == {CHUNKWISE, LAYERWISE, "recompute"}
    assert run.requests[run.requests["run"] == 0]["hit_tokens"].tolist() == [0, 0, 32, 32]
    assert run.requests["cache_state"].unique().tolist() == ["natural"]
    namespaces = {one.label.partition("/")[0]: one.namespace for one in lab.vllm.timed}
    assert len(set(namespaces.values())) == 6
    assert at_start == {f"{run}/0": 0 for run in range(6)}
    assert lab.left() == set()


def test_a_natural_run_that_hits_what_it_should_not_is_void(lab: Lab) -> None:
    lab.vllm.tamper = only("0/0", lambda served: setattr(served, "cached_tokens", 32))
    run = lab.measure(pairs=2, cache_state="natural")
    assert run.void_runs == {0: "hit 32 tokens, but the workload implies 0"}


def test_primed_hits_are_capped_where_other_prompts_stored_more(lab: Lab) -> None:
    workload = "multi_turn:conversations=2,turns=3,system=32,user=16,answer=16,output=2"
    run = lab.measure(pairs=2, workload=workload)
    assert run.meta["status"] == "complete"
    hits = run.requests[run.requests["run"] == 0].set_index("prompt")["hit_tokens"].to_dict()
    assert hits == {"c0t0": 0, "c1t0": 32, "c0t1": 48, "c1t1": 48, "c0t2": 80, "c1t2": 80}


@pytest.mark.parametrize(("verified", "written"), [(True, "dropped"), (False, "unknown")])
def test_dropping_the_page_cache_is_written_as_far_as_it_was_verified(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, verified: bool, written: str
) -> None:
    dropped: list[list[str]] = []

    def evict(store: DiskStore, keys: Iterable[str]) -> bool:
        dropped.append(sorted(keys))
        return verified

    monkeypatch.setattr(DiskStore, "evict_from_os_cache", evict)
    before: dict[str, int] = {}
    lab.vllm.tamper = lambda served: before.update({served.label: len(dropped)}) if served.timed else None
    rows = lab.measure(pairs=2, page_cache="dropped").requests
    loading = rows["arm"].isin([CHUNKWISE, LAYERWISE])
    assert set(rows[loading]["page_cache"]) == {written}
    # Before each request that loads, the very chunks that it will load.
    loaded = [one for one in lab.vllm.timed if one.arm in (CHUNKWISE, LAYERWISE)]
    assert dropped == [sorted({key for key, _, _ in one.proof}) for one in loaded]
    assert [before[one.label] for one in loaded] == list(range(1, len(loaded) + 1))


@pytest.mark.parametrize(("fraction", "written"), [(1.0, "warm"), (0.5, "unknown"), (None, "unknown")])
def test_warm_is_claimed_only_where_the_store_says_so(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, fraction: float | None, written: str
) -> None:
    monkeypatch.setattr(DiskStore, "cached_fraction", lambda store, keys: fraction)
    rows = lab.measure(pairs=2).requests
    assert set(rows[rows["arm"] != "recompute"]["page_cache"]) == {written}


def slow_enough(served: Served) -> None:
    """A tenth of this TTFT is lag that nobody minds, however noisy the machine."""
    served.ttft_s = 1000.0


def test_an_open_loop_sends_at_its_times_the_same_for_every_arm(lab: Lab) -> None:
    lab.vllm.tamper = slow_enough
    run = lab.measure(pairs=1, arrivals="constant:rate=100", bounds=False)
    rows = run.requests
    assert run.void_runs == {}
    for _, some in rows.groupby("run"):
        assert some.sort_values("position")["planned_s"].diff().dropna().tolist() == pytest.approx([0.01] * 3)
    assert (rows["sent_s"] >= rows["planned_s"]).all()


def test_a_schedule_that_lagged_voids_its_run(lab: Lab) -> None:
    def busy(served: Served) -> None:
        slow_enough(served)
        if served.label.startswith("1/"):
            served.ttft_s = 0.02
            time.sleep(0.05)  # nobody else is sent meanwhile

    lab.vllm.tamper = busy
    run = lab.measure(pairs=1, arrivals="constant:rate=200", bounds=False)
    assert list(run.void_runs) == [1]
    assert run.void_runs[1].startswith("the schedule lagged: a twentieth of the requests left over")
    assert run.meta["status"] == "void"


def test_what_neighbours_hear_is_kept_by_run_and_arm(lab: Lab) -> None:
    run = lab.measure(pairs=2, neighbours=2, probe_every_s=0.001)
    heard = load_neighbours(run.path)
    assert set(heard["run"]) == set(run.requests["run"])
    assert heard.groupby("run")["arm"].first().to_dict() == run.requests.groupby("run")["arm"].first().to_dict()
    decodes = heard[heard["kind"] == "decode"]
    assert set(decodes["stream"]) == {0, 1}
    assert (decodes["value_s"] > 0).all() and (decodes["at_s"] > 0).all()
    assert run.void_runs == {}
    # They are served by the arm that asks nothing of the store, and save nothing into it.
    assert {one.arm for one in lab.vllm.served if one.namespace == "neighbours"} <= {"recompute"}
    assert lab.left() == set()


def test_a_neighbour_that_fails_voids_its_run(lab: Lab) -> None:
    lab.vllm.neighbour_error = "no room in the cache"
    run = lab.measure(pairs=1, neighbours=1, bounds=False)
    assert run.void_runs == dict.fromkeys([0, 1], "a neighbour failed: no room in the cache")


def test_without_neighbours_nothing_is_written_of_them(lab: Lab) -> None:
    assert not (lab.measure(pairs=1).path / "neighbours.csv").exists()


def test_an_arm_with_a_part_of_the_hit_is_expected_to_hit_that_part_and_proven_by_it(lab: Lab) -> None:
    run = lab.measure(pairs=2, arms=[CHUNKWISE, "hybrid:k=1"], cache_state="primed")
    assert run.meta["status"] == "complete"
    for arm, hit in ((CHUNKWISE, 32), ("hybrid:k=1", 16), ("floor", 32)):
        rows = run.requests[run.requests["arm"] == arm]
        assert set(rows["expected_hit_tokens"]) == set(rows["hit_tokens"]) == {hit}
        assert rows["kv_digest"].notna().all()


def takes(hit: int, chunks: int) -> Callable[[Served], None]:
    """Granted so many tokens, of which so many chunks were loaded."""

    def change(served: Served) -> None:
        keys = list(dict.fromkeys(key for key, _, _ in served.proof))[:chunks]
        served.hit = served.cached_tokens = hit
        served.proof = [piece for piece in served.proof if piece[0] in keys]

    return change


def test_a_hit_that_was_chosen_by_cost_counts_if_it_is_proven(lab: Lab) -> None:
    lab.vllm.tamper = only("1/2", takes(16, 1))
    run = lab.measure(pairs=2, arms=[CHUNKWISE, "hybrid"], bounds=False)
    assert run.meta["status"] == "complete"
    rows = run.requests[run.requests["arm"] == "hybrid"]
    assert rows["hit_tokens"].tolist() == rows["expected_hit_tokens"].tolist() == [32, 32, 16, 32, 32, 32, 32, 32]


@pytest.mark.parametrize(
    ("hit", "chunks", "reason"),
    [
        (16, 2, "2 chunks were loaded and sampled, not the 1 of the hit"),
        (32, 1, "1 chunks were loaded and sampled, not the 2 of the hit"),
        (48, 2, "hit 48 tokens, but the workload implies 32"),
        (17, 2, "hit 17 tokens, but the workload implies 32"),
        (0, 0, "hit 0 tokens, but the workload implies 32"),
    ],
)
def test_one_that_is_not_voids_its_run(lab: Lab, hit: int, chunks: int, reason: str) -> None:
    lab.vllm.tamper = only("1/2", takes(hit, chunks))
    run = lab.measure(pairs=2, arms=[CHUNKWISE, "hybrid"], bounds=False)
    assert run.meta["status"] == "void"
    assert reason in run.requests["void"].dropna().item()


def test_tokens_are_held_against_those_of_equal_hits_only(lab: Lab) -> None:
    """In bfloat16 a longer computed part may change them, and no arm is wrong for it."""
    lab.vllm.tamper = lambda served: other_tokens(served) if served.arm == "hybrid:k=1" and served.timed else None
    assert lab.measure(pairs=2, arms=[CHUNKWISE, "hybrid:k=1"], bounds=False).meta["status"] == "complete"


def test_an_arm_that_takes_no_part_of_such_short_hits_is_named(lab: Lab) -> None:
    notes = lab.setting(arms=[CHUNKWISE, "hybrid:k=2", "hybrid:k=1", "hybrid", "hybrid:share=1"]).notes
    assert list(notes) == ["hybrid:k=2 loads all of each hit, as the longest has 2 chunks of 16 tokens."]
