"""Rows of two sides as one run's: what is renamed, what is checked, and what a half-written file gives."""

import json
from pathlib import Path

import pytest

from harness.core.errors import RunError
from harness.experiment.lanes.combine import Combiner, LaneRows, combine_metas
from harness.results import RunWriter, load
from harness.results.side_tables import load_neighbours

HEADER = "run,round,position,arm,prompt,ttft_s,output_digest,kv_digest,void,error,of_another_version\n"


def folder(path: Path, *rows: str, void: list[dict[str, object]] | None = None) -> Path:
    """A side's."""
    path.mkdir()
    (path / "requests.csv").write_text(HEADER + "".join(rows))
    (path / "run.json").write_text(json.dumps({"void_runs": void or []}))
    return path


@pytest.fixture
def side(tmp_path: Path) -> Path:
    return folder(tmp_path / "base")


def add(side: Path, *rows: str) -> None:
    with (side / "requests.csv").open("a") as file:
        file.write("".join(rows))


def combiner(run: Path, one_by_one: bool = True) -> tuple[RunWriter, Combiner]:
    arms = {f"{arm}@{side}": {"loads_kv": arm == "a"} for arm in ("a", "floor") for side in ("base", "head")}
    writer = RunWriter(run)
    return writer, Combiner(writer, arms, one_by_one)


def test_rows_come_once_and_only_when_they_are_whole(side: Path) -> None:
    rows = LaneRows(side)
    assert rows.requests() == []
    add(side, "0,0,0,a,p0,0.5,d,k,,,x\n", '0,0,1,a,p1,0.6,d,k,"two\nlines"')
    assert [row["prompt"] for row in rows.requests()] == ["p0"]
    add(side, ",,x\n")
    assert [(row["prompt"], row["void"]) for row in rows.requests()] == [("p1", "two\nlines")]
    assert rows.requests() == []


def test_columns_of_another_version_are_left_out(side: Path) -> None:
    add(side, "0,0,0,a,p0,0.5,d,k,,,x\n")
    assert set(LaneRows(side).requests()[0]) == set(HEADER.strip().split(",")) - {"of_another_version"}


def test_a_run_gets_its_number_its_side_and_its_spans(side: Path, tmp_path: Path) -> None:
    add(side, "3,1,0,a,p0,0.5,d,k,,,x\n")
    (side / "spans.jsonl").write_text('{"run": 3, "request": "p0", "layer": 0, "kind": "fetch", "start_s": 1.0, "new": 1}\n')
    writer, combined = combiner(tmp_path / "run")
    assert combined.take(LaneRows(side), "base", theirs=3, run=7, suffix="@base") == ([0.5], [])
    writer.write_meta({})
    writer.close()
    run = load(tmp_path / "run")
    assert run.requests[["run", "round", "arm"]].to_numpy().tolist() == [[7, 1, "a@base"]]
    assert run.requests["kv_digest"].isna().all()  # over keys, and each side has a namespace of its own
    assert run.spans[["run", "request", "kind"]].to_numpy().tolist() == [[7, "p0", "fetch"]]


def test_tokens_are_held_against_the_other_side_where_they_can_be(side: Path, tmp_path: Path) -> None:
    head = folder(tmp_path / "head", "0,0,0,a,p0,0.5,OTHER,k,,,x\n")
    add(side, "0,0,0,a,p0,0.5,d,k,,,x\n")
    reason = {"run": 1, "arm": "a@head", "prompt": "p0", "reason": "other tokens than a@base gave for the same prompt"}
    for one_by_one, void in ((True, [reason]), (False, [])):
        writer, combined = combiner(tmp_path / f"run-{one_by_one}", one_by_one)
        assert combined.take(LaneRows(side), "base", 0, 0, "@base")[1] == []
        assert combined.take(LaneRows(head), "head", 0, 1, "@head")[1] == void
        writer.close()


def test_arms_that_load_nothing_have_no_tokens_to_compare(tmp_path: Path) -> None:
    writer, combined = combiner(tmp_path / "run")
    for run, (name, tokens) in enumerate((("base", "d"), ("head", "OTHER"))):
        one = folder(tmp_path / name, f"0,0,0,floor,p0,0.5,{tokens},k,,,x\n")
        assert combined.take(LaneRows(one), name, 0, run, f"@{name}")[1] == []
    writer.close()


def test_what_a_side_found_void_or_failed_stays_so_and_is_no_witness(tmp_path: Path) -> None:
    told: list[dict[str, object]] = [
        {"run": 0, "arm": "a", "prompt": "p0", "reason": "hit 0 tokens"},
        {"run": 0, "prompt": None, "reason": "it lagged"},
    ]
    rows = ("0,0,0,a,p0,0.5,WRONG,k,hit 0 tokens,,x\n", "0,0,1,a,p1,,WRONG,k,,it died,x\n")
    base = folder(tmp_path / "base", *rows, void=[*told, {"run": 1, "reason": "another run"}])
    head = folder(tmp_path / "head", "0,0,0,a,p0,0.5,d,k,,,x\n", "0,0,1,a,p1,0.5,d,k,,,x\n")
    writer, combined = combiner(tmp_path / "run")
    times, void = combined.take(LaneRows(base), "base", 0, 6, "@base")
    assert times == [0.5, None]
    assert void == [{**entry, "run": 6, "arm": "a@base"} for entry in told]
    assert combined.take(LaneRows(head), "head", 0, 7, "@head")[1] == []
    writer.write_meta({"void_runs": void})
    writer.close()
    assert load(tmp_path / "run").void_runs == {6: "hit 0 tokens"}


def test_neighbours_of_a_run_come_along(side: Path, tmp_path: Path) -> None:
    add(side, "3,1,0,a,p0,0.5,d,k,,,x\n")
    (side / "neighbours.csv").write_text("run,round,arm,kind,stream,at_s,value_s\n3,1,a,decode,0,0.1,0.02\n")
    writer, combined = combiner(tmp_path / "run")
    combined.take(LaneRows(side), "base", 3, 7, "@base")
    writer.close()
    assert load_neighbours(tmp_path / "run")[["run", "arm", "value_s"]].to_numpy().tolist() == [[7, "a@base", 0.02]]


@pytest.mark.parametrize("text", ["{", "[]", '{"void_runs": [1]}'])
def test_a_run_json_that_is_none_is_named(side: Path, text: str) -> None:
    (side / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        LaneRows(side).void(0)


@pytest.mark.parametrize("rows", ["", "5,0,0,a,p0,0.5,d,k,,,x\n"])
def test_rows_that_are_missing_or_of_another_run_are_noticed(side: Path, tmp_path: Path, rows: str) -> None:
    add(side, rows)
    writer, combined = combiner(tmp_path / "run")
    with pytest.raises(RunError, match=r"the base said that its run 0 is done, but left . rows of it"):
        combined.take(LaneRows(side), "base", 0, 0)
    writer.close()


def meta(**changes: object) -> dict[str, object]:
    arms = [{"name": "a", "loads_kv": True}, {"name": "b", "loads_kv": True}]
    whole = {
        "config": {"arms": ["a", "b"], "workload": "w"},
        "arms": arms,
        "data": {"fingerprint": "f"},
        "versions": {"ttft": "1"},
    }
    return {**whole, "correctness": {"status": "passed"}, **changes}


def test_one_run_json_for_both() -> None:
    combined = combine_metas({"base": meta(), "head": meta(versions={"ttft": "2"})})
    assert [arm["name"] for arm in combined["arms"]] == ["a@base", "a@head", "b@base", "b@head"] == combined["config"]["arms"]
    assert combined["correctness"]["status"] == "passed"
    assert combined["data"] == {"fingerprint": "f"}


def test_correct_only_where_both_are() -> None:
    combined = combine_metas({"base": meta(), "head": meta(correctness={"status": "skipped"})})
    assert combined["correctness"]["status"] == "skipped"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"fingerprint": "g"}}, "do not measure the same: data fingerprint is 'f' in one run and 'g' in the other"),
        ({"config": {"arms": ["a", "b"], "workload": "v"}}, "do not measure the same: setting 'workload' is 'w' in one run"),
        ({"arms": [{"name": "a"}]}, r"the two versions measure other arms: base: \['a', 'b'\]; head: \['a'\]"),
    ],
)
def test_two_versions_that_measure_other_things_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        combine_metas({"base": meta(), "head": meta(**changes)})
