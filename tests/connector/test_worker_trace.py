"""What the worker's half of the connector writes into the trace."""

from pathlib import Path
from typing import Any

import pytest
from working import LOADING, A, B, Maker, lines, load, make, store  # noqa: F401  fixtures among them

from harness.connector.load_record import load_record
from harness.connector.step import Load, Note
from harness.stores.base import Store
from harness.testing.small_kv import chunk_key

LOAD_FIELDS = {
    "kind", "label", "rank", "arm", "start_s", "end_s", "stall_s", "operations", "keys", "bytes", "failed_blocks", "spans",
    "proof",
}  # fmt: skip


# -- trace ---------------------------------------------------------------------------------------


def test_records_have_the_documented_fields(make: Maker, tmp_path: Path) -> None:
    one = make()
    one.save((A, (0, 1)))
    one.step([load(LOADING[3], "r", (A,), (8, 9), "run/1")], notes=[Note("run/1", 1.5, 2.5, 32, 48)])
    one.step(prove=["r"])
    save, lookup, loaded = lines(tmp_path)
    assert set(save) == {"kind", "key", "start_s", "end_s", "checksums"}
    assert lookup == {"kind": "lookup", "label": "run/1", "start_s": 1.5, "end_s": 2.5, "hit_tokens": 32, "stored_tokens": 48}
    assert set(loaded) == LOAD_FIELDS
    assert (save["key"], len(save["checksums"])) == (A, one.cache.geometry.layers)
    assert save["start_s"] <= save["end_s"]
    layers = one.cache.geometry.layers
    assert (loaded["operations"], loaded["keys"]) == (layers, layers)
    assert loaded["bytes"] == one.cache.geometry.chunk_bytes + one.layout.header_bytes
    kinds = [span[0] for span in loaded["spans"]]
    assert (kinds.count("fetch"), kinds.count("forward")) == (layers, 1)
    fetches = [span for span in loaded["spans"] if span[0] == "fetch"]
    assert {span[1] for span in fetches} == set(range(layers))
    assert loaded["start_s"] == min(span[2] for span in fetches)
    assert loaded["end_s"] == max(span[3] for span in fetches)
    assert loaded["stall_s"] == pytest.approx(sum(span[3] - span[2] for span in loaded["spans"] if span[0] == "wait"))


def test_chunkwise_stalls_for_as_long_as_it_fetches(make: Maker) -> None:
    one = make()
    one.save((A, (0, 1)), (B, (2, 3)))
    one.step([load("chunkwise:pool=0", "r", (A, B), (8, 9, 10, 11), "x")])
    one.step(prove=["r"])
    (record,) = one.trace.loads("x")
    assert (record["operations"], record["keys"]) == (2, 2)
    assert record["stall_s"] >= record["end_s"] - record["start_s"] > 0


def test_every_chunk_and_every_layer_is_sampled(make: Maker) -> None:
    one = make()
    keys = [chunk_key(str(i)) for i in range(8)]
    one.save(*((key, (2 * i, 2 * i + 1)) for i, key in enumerate(keys)))
    for count in (1, 4, 8):  # fewer chunks than layers, and more
        one.step([load(LOADING[0], "r", keys[:count], range(16, 16 + 2 * count), "x")])
        one.step(prove=["r"])
        proof = one.trace.loads("x")[0]["proof"]
        assert {key for key, _, _ in proof} == set(keys[:count])
        assert {layer for _, layer, _ in proof} == set(range(one.cache.geometry.layers))
        assert all(digest == one.trace.saved[key][layer] for key, layer, digest in proof)


def test_a_failed_load_is_written_at_once_and_has_no_proof(make: Maker) -> None:
    one = make()
    one.step([load(LOADING[0], "r", (A,), (8, 9), "x")])
    (record,) = one.trace.loads("x")
    assert (record["failed_blocks"], record["proof"]) == (2, None)
    one.step(prove=["r"], forget=["r"])
    assert one.trace.loads("x") == []


def test_a_forgotten_load_is_written_without_a_proof(make: Maker) -> None:
    one = make()
    one.save((A, (0, 1)))
    one.step([load(LOADING[0], "r", (A,), (8, 9), "x")])
    one.step(forget=["r", "somebody else"])
    (record,) = one.trace.loads("x")
    assert (record["failed_blocks"], record["proof"]) == (0, None)
    assert one.worker._pending == {}


def test_floor_is_traced_as_moving_nothing(make: Maker) -> None:
    one = make()
    before = one.contents((8, 9))
    assert one.step([load("floor", "r", (A,), (8, 9), "x")]) == set()
    one.step(forget=["r"])
    (record,) = one.trace.loads("x")
    assert one.contents((8, 9)) == before
    assert (record["operations"], record["bytes"], record["stall_s"], record["start_s"]) == (0, 0, 0, None)


def test_without_a_trace_nothing_is_written_or_kept(make: Maker, tmp_path: Path) -> None:
    one = make(traced=False)
    one.save((A, (0, 1)))
    for number in range(5):
        one.step([load(arm, f"{arm}{number}", (A, B), (8, 9, 10, 11), "x") for arm in LOADING], notes=[Note("x", 0, 1, 8, 8)])
        one.step(prove=[f"{arm}{number}" for arm in LOADING])
    assert lines(tmp_path) == []
    assert (one.worker._recorder.spans, one.worker._pending, one.worker._loads) == ([], {}, [])


def test_with_a_trace_only_labelled_requests_are_kept(make: Maker, tmp_path: Path) -> None:
    one = make()
    one.save((A, (0, 1)))
    for number in range(5):
        one.step([load(LOADING[3], f"r{number}", (A,), (8, 9)), load(LOADING[0], f"s{number}", (A,), (10, 11), "x")])
        one.step(prove=[f"s{number}"])
    assert [record["kind"] for record in lines(tmp_path)] == ["save"] + ["load"] * 5
    assert (one.worker._recorder.spans, one.worker._pending) == ([], {})


def test_closing_ends_engines_span_log_and_store(
    make: Maker, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(store, "close", lambda: closed.append("store"))
    one = make()
    one.worker.close()
    one.worker.close()
    assert closed == ["store", "store"]
    one.worker._span_log.write({"kind": "late"})  # as a save that outlives the server does: nobody is left to read it
    assert lines(tmp_path) == []


def test_the_step_that_is_timed_sorts_no_spans(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_in: list[str] = []

    def noted(load: Load, *rest: Any) -> dict[str, Any]:
        sorted_in.append(load.label)
        return load_record(load, *rest)

    monkeypatch.setattr("harness.connector.worker_side.load_record", noted)
    one = make()
    one.save((A, (0, 1)))
    one.step([load(LOADING[3], "r", (A,), (8, 9), "x")])
    assert sorted_in == [], "layerwise has hundreds of spans, and its first token would wait for them"
    one.step(prove=["r"])
    assert sorted_in == ["x"]
