"""A whole experiment over an engine that computes nothing: what is written, when, and what is left behind."""

import csv
import json
import signal

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, Lab, Served, lab

from harness.core.errors import RunError, SetupError, StoreUnavailable

__all__ = ["lab"]


def test_the_settings_say_what_was_done_not_what_was_asked_for(lab: Lab) -> None:
    """Or a default that means the same under another name would be another environment to a gate."""
    assert lab.measure().meta["config"]["load_failure_policy"] in ("recompute", "fail")


def test_a_complete_run_counts_in_full_and_leaves_the_store_empty(lab: Lab) -> None:
    run = lab.measure()
    assert run.meta["status"] == "complete"
    assert run.meta["ended"]
    assert run.meta["correctness"]["status"] == "passed"
    assert run.void_runs == {}
    # Two arms and the floor in each of three rounds, recompute in two: eleven runs of four prompts.
    assert run.requests["run"].tolist() == [i for i in range(11) for _ in range(4)]
    assert len(run.counted) == 44
    assert run.requests["arm"].value_counts().to_dict() == {CHUNKWISE: 12, LAYERWISE: 12, "floor": 12, "recompute": 8}
    assert [entry["done"] for entry in run.meta["runs"]] == [True] * 11
    assert lab.left() == set()
    assert [engine.closed for engine in lab.vllm.engines] == [True]


def test_what_comes_back_is_what_is_on_disk(lab: Lab) -> None:
    run = lab.measure()
    assert {"schema": "2.1", **json.loads(json.dumps(lab.last, default=str))} == run.meta


def test_the_rows_say_what_the_engine_did(lab: Lab) -> None:
    rows = lab.measure().requests
    loading = rows[rows["arm"].isin([CHUNKWISE, LAYERWISE])]
    assert loading["hit_tokens"].tolist() == loading["expected_hit_tokens"].tolist() == [32] * 24
    assert loading["stall_s"].tolist() == pytest.approx([0.004] * 24)
    assert loading["ttft_s"].tolist() == pytest.approx([0.02] * 24)
    assert loading["bytes"].tolist() == [64] * 24
    assert (loading.groupby("prompt")["kv_digest"].nunique() == 1).all()
    assert (rows[rows["arm"] == "recompute"]["hit_tokens"] == 0).all()
    assert (rows[rows["arm"] == "floor"]["stall_s"] == 0).all()
    assert (rows["sent_s"] >= rows["planned_s"]).all()


def test_spans_are_written_for_their_requests(lab: Lab) -> None:
    run = lab.measure()
    fetches = run.spans[run.spans["kind"] == "fetch"]
    assert len(fetches) == 24
    assert len(run.spans[run.spans["kind"] == "lookup"]) == 36
    assert set(fetches["run"]) == set(run.requests[run.requests["bytes"].fillna(0) > 0]["run"])


def test_each_row_is_on_disk_before_the_next_request(lab: Lab) -> None:
    seen: list[int] = []

    def count(served: Served) -> None:
        if served.timed:
            with (lab.folder / "requests.csv").open(newline="") as file:
                seen.append(len(list(csv.DictReader(file))))

    lab.vllm.tamper = count
    lab.measure()
    assert seen == list(range(44))


def test_measured_runs_save_nothing_and_warm_up_uses_other_prompts(lab: Lab) -> None:
    lab.measure(warmup=2)
    measured = {one.prompt for one in lab.vllm.timed}
    warm = [one for one in lab.vllm.served if one.namespace.endswith("-warm-up") and one.prompt not in measured]
    assert len([one for one in warm if len(one.prompt) == 37]) == 2 * 3  # the two arms and the floor, twice
    assert {one.hit for one in warm if len(one.prompt) == 37} == {32}
    assert all(one.prompt not in measured for one in warm)


def test_bfloat16_is_proven_correct_in_float32_by_an_engine_of_its_own(lab: Lab) -> None:
    run = lab.measure(dtype="bfloat16")
    assert [engine.settings.dtype for engine in lab.vllm.engines] == ["float32", "bfloat16"]
    assert run.meta["correctness"]["status"] == "passed"
    assert run.meta["status"] == "complete"
    assert lab.left() == set()


def test_two_ranks_are_both_primed_proven_and_cleaned(lab: Lab) -> None:
    run = lab.measure(tensor_parallel=2)
    assert run.meta["status"] == "complete"
    assert set(run.requests[run.requests["arm"] == LAYERWISE]["bytes"]) == {128}
    assert lab.left() == set()


def test_several_at_once_are_all_measured(lab: Lab) -> None:
    run = lab.measure(concurrency=3)
    assert run.meta["status"] == "complete"
    assert sorted(run.requests[run.requests["run"] == 0]["position"]) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["raised", "signal"])
def test_an_interrupt_keeps_the_rows_and_cleans_the_store(lab: Lab, kind: str) -> None:
    def interrupt(served: Served) -> None:
        if served.label == "3/2":
            if kind == "raised":
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)

    lab.vllm.tamper = interrupt
    with pytest.raises(KeyboardInterrupt):
        lab.measure()
    run = lab.run()
    assert run.meta["status"] == "partial"
    assert run.meta["ended_by"] == "KeyboardInterrupt"
    assert len(run.requests) == 3 * 4 + 2
    assert run.void_runs == {3: "interrupted"}
    assert run.counted["run"].unique().tolist() == [0, 1, 2]
    assert lab.left() == set()
    assert lab.vllm.engines[0].closed


def test_an_interrupted_natural_run_leaves_none_of_its_own_chunks(lab: Lab) -> None:
    seen: list[int] = []

    def interrupt(served: Served) -> None:
        if served.label == "1/2":
            seen.append(len(lab.left()))
            raise KeyboardInterrupt

    lab.vllm.tamper = interrupt
    with pytest.raises(KeyboardInterrupt):
        lab.measure(cache_state="natural")
    assert seen == [4]  # two prompts of two chunks, which the session had not taken note of yet
    assert lab.left() == set()


def test_a_save_that_fails_while_priming_ends_in_a_sentence_and_a_clean_store(lab: Lab) -> None:
    def fail(served: Served) -> None:
        if not served.label and len(lab.vllm.served) == 2:
            served.save_error = "no space left on device"

    lab.vllm.tamper = fail
    with pytest.raises(StoreUnavailable, match="chunks could not be saved: no space left on device"):
        lab.measure(correctness_prompts=0)
    run = lab.run()
    assert run.meta["status"] == "partial"
    assert "no space left on device" in run.meta["ended_by"]
    assert len(run.requests) == 0
    assert lab.left() == set()


def test_priming_that_fails_or_saves_too_little_ends_in_a_sentence(lab: Lab) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "error", "the engine died")
    with pytest.raises(RunError, match="priming failed: the engine died"):
        lab.measure()
    lab.vllm.tamper = lambda served: setattr(served, "saves", False)
    with pytest.raises(RunError, match=r"priming left 2 chunks unsaved; see vllm\.log"):
        lab.measure()


def test_a_kept_store_holds_the_primed_chunks_and_no_others(lab: Lab) -> None:
    run = lab.measure(keep_store=True)
    left = lab.left()
    assert len(left) == run.meta["data"]["primed_chunks"] == 4
    assert {key for one in lab.vllm.timed for key, _, _ in one.proof} == left


def test_chunks_of_others_stay(lab: Lab) -> None:
    theirs = "f" * 32
    with lab.open() as store:
        store.write(theirs, [b"not ours"])
    lab.measure()
    assert lab.left() == {theirs}


def test_what_a_killed_session_left_goes_before_anything_is_sent(lab: Lab) -> None:
    orphan = "a" * 32
    log = lab.folder / "span_log"
    log.mkdir(parents=True)
    (log / "worker-0.jsonl").write_text(json.dumps({"kind": "save", "key": orphan, "checksums": [1, 2]}) + "\n")
    with lab.open() as store:
        store.write(orphan, [b"left behind"])
    first: list[bool] = []
    lab.vllm.tamper = lambda served: first.append(orphan in lab.left())
    assert lab.measure().meta["status"] == "complete"
    assert not any(first)


def test_an_engine_without_a_trace_is_closed_and_named(lab: Lab) -> None:
    lab.vllm.mute = True
    with pytest.raises(RunError, match=r"the connector left no span log in .*vllm\.log"):
        lab.measure()
    assert lab.vllm.engines[0].closed
    assert lab.run().meta["status"] == "partial"


def test_a_start_that_fails_leaves_its_sentence_in_run_json(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SetupError("vLLM did not start: no memory")

    monkeypatch.setattr(lab.vllm, "start", fail)
    with pytest.raises(SetupError):
        lab.measure()
    assert lab.run().meta["ended_by"] == "vLLM did not start: no memory"
