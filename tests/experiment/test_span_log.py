"""Reading the connector's span log while it grows."""

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import RunError
from harness.core.spans import SpanLog
from harness.experiment.span_log import SpanLogReader

WHOLE: dict[str, dict[str, Any]] = {
    "lookup": {"start_s": 1.0, "end_s": 1.5, "hit_tokens": 0},
    "load": {"start_s": 1.5, "end_s": 2.0, "stall_s": 0.5, "operations": 1, "keys": 1, "bytes": 8, "failed_blocks": 0}
    | {"spans": [["fetch", -1, 1.5, 2.0, 8, 1]], "proof": None},
}


def record(kind: str, **more: Any) -> bytes:
    return json.dumps({"kind": kind, **WHOLE.get(kind, {}), **more}).encode() + b"\n"


def append(folder: Path, data: bytes, rank: int = 0) -> None:
    with (folder / f"worker-{rank}.jsonl").open("ab") as file:
        file.write(data)


def test_a_lookup_and_the_loads_are_given_once(tmp_path: Path) -> None:
    append(tmp_path, record("lookup", label="0/0", hit_tokens=32) + record("load", label="0/0", rank=0))
    reader = SpanLogReader(tmp_path)
    assert reader.lookup("0/0") is None  # nothing before the first poll
    reader.poll()
    assert (reader.lookup("0/0") or {})["hit_tokens"] == 32
    assert [load["rank"] for load in reader.loads("0/0")] == [0]
    reader.poll()
    assert reader.lookup("0/0") is None
    assert reader.loads("0/0") == []
    assert reader.loads("unheard of") == []


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    line = record("save", key="aa", checksums=[1, 2])
    reader = SpanLogReader(tmp_path)
    append(tmp_path, record("start", blocks=3) + line[:20])
    reader.poll()
    assert (reader.start["blocks"], reader.saved) == (3, {})
    append(tmp_path, line[20:-1])
    reader.poll()
    assert reader.saved == {}
    append(tmp_path, line[-1:])
    reader.poll()
    assert reader.saved == {"aa": [1, 2]}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 400), max_size=6))
def test_it_does_not_matter_where_the_writes_are_cut(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("trace")
    lines = [record("save", key=f"k{i}", checksums=[i]) for i in range(5)] + [record("load", label="ü", rank=i) for i in range(3)]
    data = b"".join(lines)
    reader = SpanLogReader(folder)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(places):
        append(folder, data[begin:end])
        reader.poll()
    assert reader.saved == {f"k{i}": [i] for i in range(5)}
    assert [load["rank"] for load in reader.loads("ü")] == [0, 1, 2]


def test_all_ranks_are_followed_also_those_that_come_late(tmp_path: Path) -> None:
    reader = SpanLogReader(tmp_path)
    append(tmp_path, record("load", label="0/0", rank=0))
    reader.poll()
    append(tmp_path, record("load", label="0/0", rank=1) + record("save", key="b", checksums=[2]), rank=1)
    (tmp_path / "scheduler.jsonl").write_bytes(record("load", label="0/0", rank=7))
    reader.poll()
    assert [load["rank"] for load in reader.loads("0/0")] == [0, 1]
    assert reader.saved == {"b": [2]}


def test_loads_of_one_request_add_up_across_polls(tmp_path: Path) -> None:
    reader = SpanLogReader(tmp_path)
    for number in range(2):  # the second one after a preemption
        append(tmp_path, record("load", label="0/0", rank=0, operations=number))
        reader.poll()
    assert [load["operations"] for load in reader.loads("0/0")] == [0, 1]


def test_deleted_chunks_are_forgotten_and_may_come_back(tmp_path: Path) -> None:
    append(tmp_path, record("save", key="a", checksums=[1]) + record("save", key="b", checksums=[2]))
    reader = SpanLogReader(tmp_path)
    reader.poll()
    reader.forget(["a", "never there"])
    reader.poll()
    assert reader.saved == {"b": [2]}
    append(tmp_path, record("save", key="a", checksums=[3]))
    reader.poll()
    assert reader.saved == {"a": [3], "b": [2]}


def test_failed_saves_are_kept(tmp_path: Path) -> None:
    append(tmp_path, record("save_error", key="a", error="disk full"))
    reader = SpanLogReader(tmp_path)
    reader.poll()
    assert reader.save_errors == ["disk full"]
    assert reader.saved == {}


def test_a_folder_without_a_trace_says_nothing(tmp_path: Path) -> None:
    reader = SpanLogReader(tmp_path / "nowhere")
    reader.poll()
    assert (reader.start, reader.saved, reader.save_errors) == ({}, {}, [])


def test_what_the_connector_writes_is_what_is_read(tmp_path: Path) -> None:
    log = SpanLog(str(tmp_path), "worker-0")
    log.write({"kind": "save", "key": "a", "checksums": [2**64 - 1]})
    reader = SpanLogReader(tmp_path)
    reader.poll()  # before the file is closed
    log.close()
    assert reader.saved == {"a": [2**64 - 1]}


@pytest.mark.parametrize("long", [10, 200_000])
def test_what_a_server_did_before_is_skipped_but_for_how_it_named_itself(tmp_path: Path, long: int) -> None:
    append(
        tmp_path, record("start", blocks=7) + record("save", key="old", checksums=[1]) + record("save_error", key="o", error="e")
    )
    half = record("load", label="theirs/0", spans="x" * long)
    append(tmp_path, half[:-5])
    reader = SpanLogReader(tmp_path, "mine/")
    reader.skip()
    append(tmp_path, half[-5:] + record("save", key="new", checksums=[2]))
    reader.poll()
    assert (reader.start["blocks"], reader.saved, reader.save_errors) == (7, {"new": [2]}, [])


def test_a_trace_that_begins_after_the_skip_is_read_from_its_start(tmp_path: Path) -> None:
    append(tmp_path, b"")
    reader = SpanLogReader(tmp_path)
    reader.skip()
    assert reader.start == {}
    append(tmp_path, record("start", blocks=7))
    reader.poll()
    assert reader.start["blocks"] == 7


def test_only_requests_with_the_prefix_are_kept_without_it(tmp_path: Path) -> None:
    for who in ("mine", "theirs"):
        append(tmp_path, record("lookup", label=f"{who}/0/0", hit_tokens=1) + record("load", label=f"{who}/0/0", rank=0))
    reader = SpanLogReader(tmp_path, "mine/")
    reader.poll()
    assert reader.lookup("0/0") is not None and len(reader.loads("0/0")) == 1
    assert reader.lookup("theirs/0/0") is None and reader.loads("theirs/0/0") == []


def test_no_folder_has_never_anything_new() -> None:
    reader = SpanLogReader(None)
    reader.skip()
    reader.poll()
    assert (reader.start, reader.saved) == ({}, {})


@pytest.mark.parametrize(
    "change",
    [{"start_s": "1"}, {"end_s": None}, {"hit_tokens": [7]}, {"spans": [["fetch", 0]]}, {"proof": [["00"]]}, {"rank": {}}],
)
def test_a_record_without_what_it_must_hold_is_one_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    kind = "lookup" if "hit_tokens" in change or "end_s" in change else "load"
    append(tmp_path, record(kind, label="r", rank=0) + record(kind, **{"label": "r", "rank": 0, **change}))
    with pytest.raises(RunError, match="has a line that no span log has"):
        SpanLogReader(tmp_path).poll()
    SpanLogReader(tmp_path, prefix="mine/").poll()  # another client's request is none of ours


def test_a_log_that_cannot_be_read_is_one_sentence_and_one_that_is_gone_has_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "worker-0.jsonl").mkdir()
    for read in (SpanLogReader.poll, SpanLogReader.skip):
        with pytest.raises(RunError, match=r"worker-0.jsonl cannot be read: Is a directory"):
            read(SpanLogReader(tmp_path))
    (tmp_path / "worker-0.jsonl").rmdir()
    (tmp_path / "worker-0.jsonl").symlink_to("gone")  # as one that is moved aside between the listing and the reading
    append(tmp_path, record("start", blocks=7), rank=1)
    reader = SpanLogReader(tmp_path)
    reader.skip()
    append(tmp_path, record("save", key="b", checksums=[2]), rank=1)
    reader.poll()
    assert reader.saved == {"b": [2]}
    os.truncate(tmp_path / "worker-1.jsonl", 0)  # it began anew, and what went before is deleted
    append(tmp_path, record("save", key="c", checksums=[3]), rank=1)
    reader.poll()
    assert reader.saved == {"b": [2], "c": [3]}
