"""Results folders that somebody made up, or that hold what nobody wrote: one short sentence, never a traceback."""

import copy
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.core.errors import ResultsError
from harness.results import RunWriter, load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=8", "layerwise:depth=4")
DEEP = "[" * 100_000 + "]" * 100_000
MORE = {
    "stopped": {"rounds": 2, "reason": "x"},
    "failed_arms": [{"arm": "floor", "reason": "x"}],
    "resumed": ["2026-01-02T03:04:05Z"],
    "ended_by": "x",
}
BAD: tuple[Any, ...] = (10**400, -1, float("inf"), "=x" + "y" * 5000, [], {}, None, [1], {"a": 1})


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in run.json, of lists the first entry."""
    if place:
        yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*place, key))


def test_any_value_at_any_place_of_run_json_is_read_or_refused(tmp_path: Path) -> None:
    run = load(write_synthetic_run(tmp_path, ARMS, rounds=2, prompts=1, spans=False, meta=MORE))
    for number, place in enumerate(places(run.meta)):
        for bad in BAD[number % 5 :: 5]:
            meta = copy.deepcopy(run.meta)
            inside: Any = meta
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = bad
            (tmp_path / "run.json").write_text(json.dumps(meta))
            try:
                found = load(tmp_path)
                assert all(str(finding) for finding in gather(found).findings)
                assert len(found.runs) >= len(found.counted["run"].unique())
            except ResultsError as error:
                assert len(str(error)) < 1000, place


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", DEEP, r"run\.json cannot be read: it is nested too deeply; restore"),
        ("run.json", '{"a": ' + "1" * 5000 + "}", r"run\.json cannot be read: "),
        ("run.json", '{"schema": "' + "9" * 5000 + '"}', r"was written with results schema 999.*…"),
        ("run.json", '{"schema": "2.0", "runs": [{"run": ' + "9" * 30 + "}]}", r"'runs' has a number that no run or round has"),
        ("run.json", '{"schema": "2.0", "runs": [{"run": -1}]}', r"'runs' has a number that no run or round has"),
        ("run.json", '{"schema": "2.0", "runs": [{"run": 0, "done": "false"}]}', r"a 'done' in its 'runs' is not true or false"),
        ("run.json", '{"schema": "2.0", "void_runs": ["' + "x" * 5000 + '"]}', r"'void_runs' has an entry without"),
        ("spans.jsonl", f"{DEEP}\n", r"spans\.jsonl, line 1 is nested too deeply"),
        ("spans.jsonl", '{"run": ' + "9" * 30 + "}\n", r"spans\.jsonl has a value that is not what its column holds"),
        ("spans.jsonl", '{"run": "' + "x" * 5000 + '"}\n', r"spans\.jsonl has a value that is not what its column holds"),
        ("spans.jsonl", "[]\n", r"spans\.jsonl, line 1 is not JSON: it is no object"),
        ("requests.csv", "run,arm,prompt,ttft_s\n" + "9" * 30 + ",a,p,1\n", r"requests\.csv has a cell that is not"),
        ("requests.csv", "run,arm,prompt,ttft_s\n0,a,p,1e999\n", r"requests\.csv has a cell that is not .*infinite"),
        ("requests.csv", "run,arm,prompt,ttft_s\n0,a,p," + "x" * 5000 + "\n", r"requests\.csv has a cell that is not"),
        ("requests.csv", "run,arm,prompt,ttft_s,queue_s" + "\x00" + "\n", r"requests\.csv, line 1 is damaged"),
    ],
)
def test_what_nobody_wrote_is_one_short_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    RunWriter(tmp_path).close()
    (tmp_path / "run.json").write_text('{"schema": "2.0"}')
    (tmp_path / name).write_text(text)
    with pytest.raises(ResultsError, match=message) as told:
        load(tmp_path)
    assert len(str(told.value)) < 1000


def test_no_cell_of_our_files_is_computed_by_a_spreadsheet(tmp_path: Path) -> None:
    failed = {(0, 0): "=HYPERLINK(1)", (0, 1): "@SUM(1)", (1, 0): "-1+1", (1, 1): "'=1"}
    write_synthetic_run(tmp_path, ARMS, rounds=2, prompts=2, spans=False, failed=failed)
    found = load(tmp_path)
    assert found.requests["error"].dropna().tolist() == list(failed.values())
    report.of(found).write()
    for file in (tmp_path / "requests.csv", tmp_path / "summary.csv"):
        rows = csv.reader(file.read_text(encoding="utf-8").splitlines())
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@", "\t")) or cell.startswith("-1+")]


def test_a_text_that_is_no_unicode_is_written_as_an_escape(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer.write_meta({})
    writer.append({"run": 0, "arm": "a", "prompt": "p\ud800", "ttft_s": 0.5})
    writer.close()
    assert load(tmp_path).requests["prompt"].tolist() == ["p\\ud800"]
