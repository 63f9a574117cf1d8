"""Reports: the numbers are those of requests.csv, and bad or little data gives a report that says so."""

import contextlib
import csv
import io
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats.mstats import hdquantiles

from harness import report
from harness.commands.report import say
from harness.core.errors import ResultsError
from harness.reporting import figures as plots
from harness.reporting.markdown import report as markdown_of
from harness.reporting.summary import Summary, blocking_arm, summarise
from harness.results import Measurement, load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

FIVE = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "recompute", "floor")
TWO = ("chunkwise:pool=8", "layerwise:depth=4")
GOLDEN = Path(__file__).parent / "goldens" / "report_table.txt"


def run_of(folder: Path, arms: tuple[str, ...] = TWO, **more: Any) -> Measurement:
    return load(write_synthetic_run(folder, arms, **{"spans": False, **more}))


def summary_of(folder: Path, arms: tuple[str, ...] = TWO, **more: Any) -> Summary:
    return summarise(gather(run_of(folder, arms, **more)))


def shown(run: Measurement, width: int = 120) -> str:
    """What the terminal shows of a run."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), mock.patch("harness.commands.report.console", lambda: Console(width=width, file=text)):
        say(report.of(run))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def headline(run: Measurement) -> str:
    return report.of(run).headline.text


def render(path: Path, out: Path | None = None) -> list[Path]:
    return report.of(load(path)).write(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered run of five arms."""
    path = write_synthetic_run(tmp_path_factory.mktemp("run"), FIVE, prompts=24)
    render(path)
    return path


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def hodges_lehmann(values: list[float]) -> float:
    return float(np.median([(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]))


def test_render_writes_the_files_that_it_returns(folder: Path) -> None:
    written = render(folder)
    pictures = {folder / "pictures" / f"{name}.{kind}" for name in plots.PICTURES for kind in ("png", "svg")}
    assert set(written) == pictures | {folder / name for name in ("summary.csv", "report.md", "report.html")}
    assert all(file.stat().st_size > 0 for file in written)


def test_the_numbers_of_summary_csv_can_be_recomputed_from_requests_csv(folder: Path) -> None:
    ttft: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    stall: dict[str, list[float]] = defaultdict(list)
    fetched: dict[str, list[float]] = defaultdict(list)
    for row in rows_of_csv(folder / "requests.csv"):
        ttft[row["arm"]][int(row["round"])].append(float(row["ttft_s"]))
        stall[row["arm"]].append(float(row["stall_s"]))
        fetched[row["arm"]].append(float(row["bytes"]))
    summary = rows_of_csv(folder / "summary.csv")
    assert [row["arm"] for row in summary] == list(FIVE)
    for row in summary:
        runs = ttft[row["arm"]]
        assert (int(row["runs"]), int(row["requests"])) == (6, 6 * 24)
        assert float(row["mean_s"]) == pytest.approx(hodges_lehmann([float(np.mean(run)) for run in runs.values()]))
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95)):
            values = [float(hdquantiles(run, [q])[0]) for run in runs.values()]
            assert float(row[f"{name}_s"]) == pytest.approx(hodges_lehmann(values))
            assert float(row[f"{name}_low_s"]) <= float(row[f"{name}_s"]) <= float(row[f"{name}_high_s"])
            base = [float(hdquantiles(run, [q])[0]) for run in ttft[FIVE[0]].values()]
            logs = [float(np.log(mine / first)) for mine, first in zip(values, base, strict=True)]
            assert float(row[f"{name}_ratio"]) == pytest.approx(np.exp(hodges_lehmann(logs)))
        assert float(row["stall_mean_s"]) == pytest.approx(np.mean(stall[row["arm"]]))
        assert float(row["bytes_mean"]) == pytest.approx(np.mean(fetched[row["arm"]]))


def test_the_share_of_load_hidden_is_told_against_the_arm_without_a_pool(folder: Path) -> None:
    rows = {row["arm"]: row for row in rows_of_csv(folder / "summary.csv")}
    blocking, floor = (float(rows[arm]["p50_s"]) for arm in ("chunkwise:pool=0", "floor"))
    for arm in ("chunkwise:pool=8", "layerwise:depth=4"):
        simple = (blocking - float(rows[arm]["p50_s"])) / (blocking - floor)
        assert float(rows[arm]["share_hidden"]) == pytest.approx(simple, abs=0.02)
    assert all(rows[arm]["share_hidden"] == "" for arm in ("chunkwise:pool=0", "floor", "recompute"))


def test_what_cannot_be_told_is_an_empty_cell(folder: Path) -> None:
    rows = rows_of_csv(folder / "summary.csv")
    assert tuple(rows[0]) == report.SUMMARY_COLUMNS
    assert all(row["p99_s"] == "" and row["p99_ratio"] == "" for row in rows)  # 24 requests a run
    assert not {"inf", "-inf", "nan"} & {cell for row in rows for cell in row.values()}


def test_the_share_needs_a_blocking_arm_whatever_its_place() -> None:
    from harness.results.evidence import Arm

    arms = [Arm("a", "layerwise", {}, 0), Arm("b", "chunkwise", {"pool": 8}, 1), Arm("c", "chunkwise", {"pool": "0"}, 2)]
    assert blocking_arm(arms) == arms[2]
    assert blocking_arm(arms[:2]) == arms[1]
    assert blocking_arm(arms[:1]) is None


def test_the_terminal_table_is_as_it_was(tmp_path: Path) -> None:
    """To accept a change: write ``shown(...)`` of this run to the golden file and look at the difference."""
    arms = (*FIVE[:3], "layerwise:depth=4,layers_per_fetch=1", *FIVE[3:])
    run = run_of(tmp_path, arms, prompts=24, void={7: "other KV than was saved"})
    assert shown(run) == GOLDEN.read_text(encoding="utf-8")


def test_one_arm_and_one_request_give_a_report(tmp_path: Path) -> None:
    run = run_of(tmp_path, TWO[:1], rounds=1, prompts=1, spans=True)
    render(tmp_path)
    assert headline(run).startswith("Nothing to compare: only chunkwise:pool=8 was measured")
    assert "over 1 request in 1 run)" in headline(run)
    row = rows_of_csv(tmp_path / "summary.csv")[0]
    assert float(row["mean_s"]) == pytest.approx(run.requests["ttft_s"][0])
    assert row["p50_s"] == row["mean_low_s"] == row["mean_high_s"] == ""


def test_a_void_measurement_is_called_void_and_tells_no_number(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=1, void={0: "other KV than was saved", 1: "other KV than was saved"})
    files = render(tmp_path)
    assert headline(run) == "VOID: the numbers of this measurement do not count (other KV than was saved)."
    assert {file.name for file in files} == {"summary.csv", "report.md", "report.html"}
    assert all(row["mean_s"] == "" and row["requests"] == "0" for row in rows_of_csv(tmp_path / "summary.csv"))
    assert "VOID: 2 of 2 runs excluded (runs 0, 1): other KV than was saved" in shown(run)


def test_a_run_without_a_row_gives_a_report(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=0)
    assert headline(run).startswith("No verdict: no request")
    assert {file.name for file in render(tmp_path)} == {"summary.csv", "report.md", "report.html"}


def test_p99_of_few_requests_is_a_dash_with_a_warning(tmp_path: Path) -> None:
    text = shown(run_of(tmp_path))
    line = next(line for line in text.splitlines() if line.lstrip().startswith("chunkwise:pool=8"))
    assert line.split()[5] == "-"
    assert "p99 100; the shortest run has 12" in text


def test_odd_names_are_text_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PICTURES", {})  # tests/test_plots.py draws such names
    arms = ("chunkwise:[bold]x[/bold] |y|", "layerwise:<script>alert(1)</script>", "layerwise:\x1b[31m漢字")
    run = run_of(tmp_path, arms, rounds=2, prompts=3)
    render(tmp_path)
    assert "[bold]x[/bold] |y|" in shown(run, 200)
    assert "\x1b" not in shown(run, 200) + headline(run)
    assert {row["arm"] for row in rows_of_csv(tmp_path / "summary.csv")} == set(arms)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "\x1b" not in text
    outside_code = re.sub(r"^(```+)\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "<" not in outside_code
    assert "&lt;script&gt;" in outside_code


def test_secrets_are_in_no_file(tmp_path: Path) -> None:
    url = "redis://user:hunter2@host:6379/0"
    meta = {"config": {"store": url}, "command": f"ttft compare --store '{url}'", "warnings": [f"{url} was slow"]}
    write_synthetic_run(tmp_path, TWO, rounds=1, prompts=2, meta=meta)
    for file in render(tmp_path):
        assert b"hunter2" not in file.read_bytes()
    assert "redis://user:***@host:6379/0" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_what_is_no_run_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"run\.json"):
        render(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, TWO, rounds=1, prompts=2, spans=False)
    (tmp_path / "pictures").write_text("in the way")
    with pytest.raises(ResultsError, match="pictures cannot be written"):
        render(tmp_path)


def test_a_report_needs_neither_vllm_nor_torch() -> None:
    code = "import sys, harness.report; print([name for name in ('vllm', 'torch', 'matplotlib.pyplot') if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_made_up_runs_repeat_and_read_back(tmp_path: Path) -> None:
    one, two = (write_synthetic_run(tmp_path / name, FIVE, rounds=2, prompts=3) for name in "ab")
    for name in ("run.json", "requests.csv", "spans.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    run = load(one)
    assert len(run.counted) == 5 * 2 * 3
    parts = run.requests[["queue_s", "lookup_s", "stall_s", "compute_s"]].sum(axis=1)
    assert ((run.requests["ttft_s"] - parts) > 0).all()
    assert (run.spans["end_s"] >= run.spans["start_s"]).all()
    assert pd.Series(run.spans["kind"]).isin(["lookup", "fetch", "wait", "forward"]).all()


def test_the_markdown_tells_how_to_reproduce_the_run(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    for piece in (
        "ttft compare --arm chunkwise:pool=0",
        "0123456789abcdef",
        "vllm 0.32.0",
        "Synthetic CPU",
        "VLLM_CPU_OMP_THREADS_BIND auto",
        "status passed",
    ):
        assert piece in text
    for file in (folder / "pictures").glob("*.png"):
        assert f"](pictures/{file.name})" in text
    assert text.splitlines()[2].startswith("**layerwise:depth=4: ")


def test_every_table_of_the_markdown_has_as_many_cells_in_each_row(tmp_path: Path) -> None:
    made = report.of(run_of(tmp_path, ("chunkwise:a|b", *FIVE[2:])))
    summary, said = made.summary, made.headline
    widths: list[set[int]] = [set()]
    for line in markdown_of(summary, said, []).splitlines():
        if line.startswith("|"):
            widths[-1].add(line.replace("\\|", "").count("|"))
        elif widths[-1]:
            widths.append(set())
    assert [len(width) for width in widths if width] == [1, 1, 1, 1]
