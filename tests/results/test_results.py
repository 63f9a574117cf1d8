"""A run's folder: what was measured comes back as it was, and what a crash or another version left is told apart."""

import contextlib
import json
import math
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import ResultsError, SchemaMismatch
from harness.results import REQUEST_COLUMNS, SCHEMA, SPAN_COLUMNS, Measurement, RunWriter, load
from harness.results.side_tables import load_neighbours

ROW: dict[str, object] = {
    "run": 0, "round": 0, "position": 3, "arm": "layerwise:depth=4,loops=2", "prompt": "p3", "prompt_tokens": 4224,
    "hit_tokens": 4096, "sent_s": 0.1, "ttft_s": 0.2741234567890123, "bytes": 201326592, "output_digest": "00ff",
}  # fmt: skip
SPAN: dict[str, object] = {
    "run": 0, "request": "p3", "layer": 5, "kind": "fetch", "start_s": 12.5, "end_s": 12.75, "bytes": 8388608, "keys": 16,
}  # fmt: skip

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
VALUES = {"Int64": st.integers(-(2**52), 2**52), "float64": st.floats(allow_nan=False, allow_infinity=False), "string": TEXTS}


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row of ours: the columns that every row has, and any of the others."""
    return {
        name: draw(VALUES[kind])
        for name, kind in REQUEST_COLUMNS.items()
        if name in ("run", "arm", "prompt") or draw(st.booleans())
    }


def write(folder: Path, items: list[dict[str, Any]], spans: list[dict[str, Any]] | None = None, **meta: object) -> Measurement:
    writer = RunWriter(folder)
    writer.write_meta(meta)
    for item in items:
        writer.append(item)
    writer.append_spans(spans or [])
    writer.close()
    return load(folder)


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table without their empty cells."""
    return [{str(name): value for name, value in row.items() if not pd.isna(value)} for row in frame.to_dict("records")]


@settings(deadline=None, max_examples=40)
@given(st.lists(rows(), max_size=4, unique_by=lambda row: (row["run"], row.get("position"))))
def test_rows_come_back(tmp_path_factory: pytest.TempPathFactory, items: list[dict[str, Any]]) -> None:
    run = write(tmp_path_factory.mktemp("run"), items)
    assert plain(run.requests) == items
    assert run.requests.dtypes.astype(str).to_dict() == dict(REQUEST_COLUMNS)


def test_spans_come_back(tmp_path: Path) -> None:
    run = write(tmp_path, [ROW], [SPAN, {**SPAN, "layer": -1, "kind": "wait", "bytes": 0, "keys": 0}])
    assert plain(run.spans)[0] == SPAN
    assert run.spans["kind"].tolist() == ["fetch", "wait"]
    assert run.spans.dtypes.astype(str).to_dict() == dict(SPAN_COLUMNS)


def test_a_run_without_rows_or_spans_has_its_columns(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": "1.0"}')
    run = load(tmp_path)
    assert (len(run.requests), len(run.spans)) == (0, 0)
    assert run.requests.dtypes.astype(str).to_dict() == dict(REQUEST_COLUMNS)
    assert run.spans.dtypes.astype(str).to_dict() == dict(SPAN_COLUMNS)


def test_a_row_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer.write_meta({})
    writer.append(ROW)
    assert plain(load(tmp_path).requests) == [ROW]
    writer.close()
    writer.close()


def test_going_on_adds_to_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, [ROW], [SPAN])
    run = write(tmp_path, [{**ROW, "position": 4}], [SPAN])
    assert run.requests["position"].tolist() == [3, 4]
    assert len(run.spans) == 2


def test_none_and_nan_are_empty(tmp_path: Path) -> None:
    run = write(tmp_path, [{**ROW, "void": None, "stall_s": math.nan, "kv_digest": None}])
    assert run.requests.loc[0, ["void", "stall_s", "kv_digest"]].isna().all()


def test_a_column_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    with pytest.raises(ValueError, match="ttft_ms"):
        writer.append({**ROW, "ttft_ms": 274})
    writer.close()


@pytest.mark.parametrize("row", [ROW, {**ROW, "error": 'a "quoted" one,\nin two lines'}])
def test_a_last_line_cut_anywhere_is_left_out(tmp_path: Path, row: dict[str, object]) -> None:
    write(tmp_path, [{**ROW, "position": 0}, row])
    file = tmp_path / "requests.csv"
    whole = file.read_bytes()
    first = len(whole) - len(whole.split(b"\n", 2)[2])
    for length in [*range(first, len(whole) - 12, 11), *range(len(whole) - 12, len(whole))]:
        file.write_bytes(whole[:length])
        assert load(tmp_path).requests["position"].tolist() == [0], whole[first:length]


def test_going_on_after_a_cut_line_loses_only_that_line(tmp_path: Path) -> None:
    write(tmp_path, [{**ROW, "position": 0}, {**ROW, "position": 1, "error": 'say "no",\nonce more'}], [SPAN, SPAN])
    for name in ("requests.csv", "spans.jsonl"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-8])
    run = write(tmp_path, [{**ROW, "position": 2}], [SPAN])
    assert run.requests["position"].tolist() == [0, 2]
    assert len(run.spans) == 2


def with_schema(folder: Path, version: str) -> None:
    write(folder, [ROW])
    (folder / "run.json").write_text(json.dumps({"schema": version}))


@pytest.mark.parametrize("version", ["0.9", "3.0", "12.1"])
def test_another_major_schema_is_refused(tmp_path: Path, version: str) -> None:
    with_schema(tmp_path, version)
    with pytest.raises(SchemaMismatch, match=rf"{tmp_path} was written with results schema {version}, this is 2\."):
        load(tmp_path)


def test_schema_1_is_read_by_the_names_of_today(tmp_path: Path) -> None:
    write(tmp_path, [{**ROW, "round": 3}])
    file = tmp_path / "requests.csv"
    file.write_text(file.read_text().replace(",round,", ",pair,", 1))
    (tmp_path / "run.json").write_text(json.dumps({"schema": "1.1", "runs": [{"run": 0, "pair": 3, "arm": ROW["arm"]}]}))
    (tmp_path / "neighbours.csv").write_text("run,pair,arm,kind,stream,at_s,value_s\n0,3,a,decode,0,0.1,0.02\n")
    measurement = load(tmp_path)
    assert measurement.requests["round"].notna().all()
    assert measurement.runs["round"].tolist() == [3]
    assert load_neighbours(tmp_path)["round"].tolist() == [3]


def test_a_newer_minor_schema_is_read_without_what_is_new(tmp_path: Path) -> None:
    with_schema(tmp_path, "2.99")
    file = tmp_path / "requests.csv"
    header, row = file.read_text().splitlines()
    file.write_text(f"{header},new\n{row},7\n")
    assert plain(load(tmp_path).requests) == [ROW]


def test_columns_that_came_later_are_empty(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": "1.0"}')
    (tmp_path / "requests.csv").write_text("run,arm,prompt,ttft_s\n0,floor,p0,0.25\n")
    (tmp_path / "spans.jsonl").write_text(json.dumps({"run": 0, "kind": "wait"}) + "\n")
    run = load(tmp_path)
    assert plain(run.requests) == [{"run": 0, "arm": "floor", "prompt": "p0", "ttft_s": 0.25}]
    assert plain(run.spans) == [{"run": 0, "kind": "wait"}]
    assert run.requests.dtypes.astype(str).to_dict() == dict(REQUEST_COLUMNS)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "{", "run.json cannot be read"),
        ("run.json", "[]", "run.json cannot be read"),
        ("run.json", '{"schema": "1.0", "config": [], "runs": []}', "its 'config' is not an object; restore"),
        ("run.json", '{"schema": "1.0", "runs": 7}', "its 'runs' is not a list"),
        ("run.json", '{"schema": "1.0", "runs": [{"arm": "floor"}]}', "'runs' has an entry without run: "),
        ("run.json", '{"schema": "1.0", "void_runs": [{"run": 1}]}', "'void_runs' has an entry without reason or run"),
        ("run.json", '{"schema": "1.0", "void_runs": [{"run": "one", "reason": "x"}]}', "'void_runs' has an entry without"),
        ("requests.csv", "arm,prompt,ttft_s\n", "no column 'run'"),
        ("requests.csv", "run,arm,prompt,ttft_s\n0,floor,p0,soon\n", "a cell that is not what its column holds.*soon"),
        ("requests.csv", "run,arm,prompt,ttft_s\n0.5,floor,p0,1\n", "a cell that is not what its column holds"),
        ("requests.csv", "\udcff\n", "requests.csv cannot be read"),
        ("spans.jsonl", "{]\n", "spans.jsonl, line 1 is not JSON"),
        ("spans.jsonl", '{"run": 0}\n{"layer": "low"}\n', "spans.jsonl has a"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    write(tmp_path, [ROW], [SPAN])
    (tmp_path / name).write_text(text, errors="surrogateescape")
    with pytest.raises(ResultsError, match=message):
        load(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"has no run.json.*below results/"):
        load(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"file/run cannot be written: .*--out"):
        RunWriter(tmp_path / "file" / "run")


def test_meta_is_replaced_whole(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer.write_meta({"runs": [1, 2, 3]})
    writer.write_meta({"store": Path("/tmp/kv")})
    writer.close()
    assert load(tmp_path).meta == {"schema": f"{SCHEMA[0]}.{SCHEMA[1]}", "store": "/tmp/kv"}
    assert {file.name for file in tmp_path.iterdir()} == {"run.json", "requests.csv", "spans.jsonl"}


def test_only_runs_without_a_flaw_count(tmp_path: Path) -> None:
    items = [
        {**ROW, "run": 0},
        {**ROW, "run": 1},
        {**ROW, "run": 1, "position": 4, "void": "hit 0 of 4096 tokens"},
        {**ROW, "run": 2, "error": "time-out"},
        {**ROW, "run": 3, "ttft_s": None},
        {**ROW, "run": 4},
        {**ROW, "run": 5},
    ]
    done = [{"run": run, "done": run != 4} for run in range(6)]
    run = write(tmp_path, items, runs=done, void_runs=[{"run": 5, "reason": "the arms' tokens differ"}])
    assert run.void_runs == {
        1: "hit 0 of 4096 tokens",
        2: "time-out",
        3: "no first token",
        4: "interrupted",
        5: "the arms' tokens differ",
    }
    assert run.counted["run"].tolist() == [0]


@pytest.mark.parametrize("what", ["row", "spans", "meta"])
def test_a_full_disk_is_one_sentence_and_keeps_what_was_written(tmp_path: Path, what: str) -> None:
    writer = RunWriter(tmp_path)
    writer.write_meta({})
    writer.append(ROW)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    calls: dict[str, Callable[[], None]] = {
        "row": lambda: writer.append({**ROW, "error": "x" * 100_000}),
        "spans": lambda: writer.append_spans([{**SPAN, "request": "x" * 100_000}]),
        "meta": lambda: writer.write_meta({"notes": "x" * 100_000}),
    }
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ResultsError, match=r"cannot be written: .*; make room, then go on with --resume"):
            calls[what]()
        with contextlib.suppress(ResultsError):  # what is still in a buffer
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.close()
    run = load(tmp_path)
    assert (plain(run.requests), len(run.spans)) == ([ROW], 0)
