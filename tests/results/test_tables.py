"""A run's tables for pandas: documented as they are, and the same in Parquet."""

import builtins
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.commands.report import report
from harness.core.errors import ResultsError, SetupError, UsageError
from harness.results import REQUEST_COLUMNS, RUN_COLUMNS, SPAN_COLUMNS, RunWriter, load, write_parquet
from harness.testing.runs import write_synthetic_run

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
TABLES = {"requests": REQUEST_COLUMNS, "runs": RUN_COLUMNS, "spans": SPAN_COLUMNS}
UNITS = {"_s": "s", "_tokens": "tokens", "bytes": "bytes"}
ARMS = ["chunkwise:pool=0", "layerwise:depth=4"]


def documented(name: str) -> list[list[str]]:
    """Name, type, unit and meaning of each column under the page's heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    return [[cell.strip(" `") for cell in row.split("|")] for row in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE)]


@pytest.mark.parametrize("name", TABLES)
def test_the_documented_columns_are_the_schemas(name: str) -> None:
    rows = documented(name)
    assert [(row[0], row[1]) for row in rows] == list(TABLES[name].items())
    for column, _, unit, meaning in rows:
        assert meaning
        expected = next((value for end, value in UNITS.items() if column.endswith(end)), None)
        assert expected is None or unit == expected


def test_runs_are_told_with_why_they_do_not_count(tmp_path: Path) -> None:
    run = load(write_synthetic_run(tmp_path, ARMS, rounds=2, prompts=3, void={1: "hit 0 of 4096 tokens"}, stop_after=11))
    assert run.runs.dtypes.astype(str).to_dict() == dict(RUN_COLUMNS)
    assert run.runs["arm"].tolist() == [*ARMS, *ARMS[::-1]]
    assert run.runs["round"].tolist() == [0, 0, 1, 1]
    assert run.runs["done"].tolist() == [True, True, True, False]
    assert run.runs["void"].fillna("").tolist() == ["", "hit 0 of 4096 tokens", "", "interrupted"]
    counted = set(run.runs.loc[run.runs["void"].isna(), "run"])
    assert set(run.counted["run"]) == counted


def test_runs_that_only_the_rows_know_are_there_as_well(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer.write_meta({"runs": [{"run": 0, "round": "first", "arm": "a", "done": True}]})
    for number in (0, 1):
        writer.append({"run": number, "round": 0, "arm": "a", "prompt": "p", "ttft_s": 0.1})
    writer.close()
    runs = load(tmp_path).runs
    assert runs["run"].tolist() == [0, 1]
    assert runs["round"].isna().tolist() == [True, False]
    assert runs["done"].isna().tolist() == [False, True]


def test_a_run_without_anything_has_its_columns(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": "1.0"}')
    run = load(tmp_path)
    assert len(run.runs) == 0 and run.runs.dtypes.astype(str).to_dict() == dict(RUN_COLUMNS)
    pytest.importorskip("pyarrow")
    for file in write_parquet(run, tmp_path):
        assert pd.read_parquet(file).dtypes.astype(str).to_dict() == dict(TABLES[file.stem])


def test_parquet_gives_the_same_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    run = load(write_synthetic_run(tmp_path / "run", ARMS, rounds=2, prompts=3, void={1: "x"}, failed={(2, 0): "time-out"}))
    files = write_parquet(run, tmp_path / "tables")
    assert [file.name for file in files] == [f"{name}.parquet" for name in TABLES]
    for file in files:
        pd.testing.assert_frame_equal(pd.read_parquet(file), getattr(run, file.stem))
    assert {file.name for file in (tmp_path / "tables").iterdir()} == {file.name for file in files}


def test_without_pyarrow_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError("No module named 'pyarrow'")
        return real(name, *rest, **more)

    run = load(write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=1))
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SetupError, match=r"pip install 'ttft\[parquet\]'"):
        write_parquet(run, tmp_path)


def test_where_it_cannot_be_written_the_folder_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    run = load(write_synthetic_run(tmp_path / "run", ARMS, rounds=1, prompts=1))
    (tmp_path / "FILE").write_text("")
    with pytest.raises(ResultsError, match=r"Parquet cannot be written to .*FILE"):
        write_parquet(run, tmp_path / "FILE")


def test_report_writes_parquet_where_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    rendered: list[Path] = []
    monkeypatch.setattr("harness.commands.report.show", lambda folder, out: rendered.append(folder))
    folder = write_synthetic_run(tmp_path / "run", ARMS, rounds=2, prompts=3)
    report([folder], tmp_path / "page", parquet=True)
    assert {file.stem for file in (tmp_path / "page").glob("*.parquet")} == set(TABLES)
    report([folder], tmp_path / "plain")
    assert not (tmp_path / "plain").exists() and rendered == [folder, folder]
    with pytest.raises(UsageError, match="--parquet takes one measurement at a time"):
        report([folder, folder], tmp_path / "both", parquet=True)
