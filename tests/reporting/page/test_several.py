"""Several runs side by side: every number is that of its run, and what the environments do not share is said first."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.commands.report import report as command
from harness.core.errors import UsageError
from harness.reporting import figures as plots
from harness.results import load
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=8", "layerwise:depth=4", "floor")


def run_of(folder: Path, seed: int = 0, **config: Any) -> Path:
    write_synthetic_run(folder, ARMS, rounds=6, prompts=6, spans=False, seed=seed)
    file = folder / "run.json"
    meta = json.loads(file.read_text())
    meta["config"] |= {"seed": 0} | config
    file.write_text(json.dumps(meta))
    return folder


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def test_nothing_is_pooled_and_the_difference_stands_at_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PICTURES", {})  # those of single runs are not looked at here
    runs = [run_of(tmp_path / "one", concurrency=1), run_of(tmp_path / "four", 1, concurrency=4)]
    written = report.write_several(report.gather_several(runs), tmp_path / "both")
    assert {file.name for file in written if file.suffix == ".png"} == {"ecdf.png", "ratios.png", "concurrency.png"}
    rows = rows_of(tmp_path / "both" / "summary.csv")
    for run in runs:
        report.of(load(run)).write(tmp_path / f"alone-{run.name}")
        alone = rows_of(tmp_path / f"alone-{run.name}" / "summary.csv")
        assert [{name: value for name, value in row.items() if name != "run"} for row in rows if row["run"] == run.name] == alone
        assert not (run / "report.html").exists()
    difference = "setting 'concurrency' is '1' in one and '4' in four"
    for name in ("report.html", "report.md"):
        text = (tmp_path / "both" / name).read_text(encoding="utf-8").replace("&#39;", "'").replace("\\", "")
        assert difference in text
        assert text.index(difference) < text.index("chunkwise:pool=8")
        assert "nothing is pooled" in text


def test_runs_of_different_stores_have_no_line_over_concurrency(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", concurrency=1), run_of(tmp_path / "b", 1, concurrency=4, store="file:///kv")]
    several = report.gather_several(runs)
    assert several.concurrencies == ()
    assert len(several.differences) == 2
    assert "only ratios within a measurement can be compared" in several.headline


def test_runs_of_one_environment_have_no_warning(tmp_path: Path) -> None:
    several = report.gather_several([run_of(tmp_path / "a"), run_of(tmp_path / "b", 1)])
    assert several.differences == ()
    assert several.headline == "2 measurements side by side, each with its own verdict"


def test_folders_of_one_name_are_told_apart_and_a_run_is_named_once(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name / "run") for name in "ab"]
    assert report.gather_several(runs).labels == tuple(str(run.resolve()) for run in runs)
    with pytest.raises(UsageError, match="listed twice"):
        report.gather_several([runs[0], runs[0]])
    with pytest.raises(UsageError, match="holds a run"):
        report.write_several(report.gather_several(runs), runs[0])


def test_the_command_shows_each_run_and_wants_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", 1, page_cache="dropped")]
    with pytest.raises(UsageError, match="give one with --out"):
        command(runs)
    command(runs, tmp_path / "both")
    shown = capsys.readouterr().out
    assert shown.count("layerwise:depth=4: ") == 2
    assert "! setting 'page_cache' is 'warm' in a and 'dropped' in b" in shown
    assert (tmp_path / "both" / "report.html").exists()
