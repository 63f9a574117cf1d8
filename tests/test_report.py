"""Reports: the numbers are those of requests.csv, and bad or little data gives a report that says so."""

import csv
import io
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats.mstats import hdquantiles

from harness import plots, report
from harness.errors import ResultsError
from harness.evidence import gather
from harness.reporting.markdown import report as markdown_of
from harness.reporting.summary import Summary, blocking_arm, summarise
from harness.results import Run, load
from harness.testing.runs import write_synthetic_run

FIVE = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "recompute", "floor")
TWO = ("chunkwise:pool=8", "layerwise:depth=4")
GOLDEN = Path(__file__).parent / "goldens" / "report_table.txt"


def run_of(folder: Path, arms: tuple[str, ...] = TWO, **more: Any) -> Run:
    return load(write_synthetic_run(folder, arms, **{"spans": False, **more}))


def summary_of(folder: Path, arms: tuple[str, ...] = TWO, **more: Any) -> Summary:
    return summarise(gather(run_of(folder, arms, **more)))


def shown(run: Run, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None, force_terminal=False)
    console.print(report.table(run))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered run of five arms."""
    path = write_synthetic_run(tmp_path_factory.mktemp("run"), FIVE, prompts=24)
    report.render(path)
    return path


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def hodges_lehmann(values: list[float]) -> float:
    return float(np.median([(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]))


def test_render_writes_the_files_that_it_returns(folder: Path) -> None:
    written = report.render(folder)
    pictures = {folder / "pictures" / f"{name}.{kind}" for name in plots.PICTURES for kind in ("png", "svg")}
    assert set(written) == pictures | {folder / "summary.csv", folder / "report.md"}
    assert all(file.stat().st_size > 0 for file in written)


def test_the_numbers_of_summary_csv_can_be_recomputed_from_requests_csv(folder: Path) -> None:
    ttft: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    stall: dict[str, list[float]] = defaultdict(list)
    fetched: dict[str, list[float]] = defaultdict(list)
    for row in rows_of_csv(folder / "requests.csv"):
        ttft[row["arm"]][int(row["pair"])].append(float(row["ttft_s"]))
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
    from harness.evidence import Arm

    arms = [Arm("a", "layerwise", {}, 0), Arm("b", "chunkwise", {"pool": 8}, 1), Arm("c", "chunkwise", {"pool": "0"}, 2)]
    assert blocking_arm(arms) == arms[2]
    assert blocking_arm(arms[:2]) == arms[1]
    assert blocking_arm(arms[:1]) is None


def test_the_terminal_table_is_as_it_was(tmp_path: Path) -> None:
    """To accept a change: write ``shown(...)`` of this run to the golden file and look at the difference."""
    arms = (*FIVE[:3], "layerwise:depth=4,layers_per_fetch=1", *FIVE[3:])
    run = run_of(tmp_path, arms, prompts=24, void={7: "other KV than was saved"})
    assert shown(run) == GOLDEN.read_text(encoding="utf-8")


def test_the_headline_names_the_faster_arm_the_interval_the_store_and_the_workload(tmp_path: Path) -> None:
    run = run_of(tmp_path, mean_s={TWO[0]: 0.4, TWO[1]: 0.2})
    text = report.headline(run)
    assert text.startswith("layerwise:depth=4 gives the first token sooner than chunkwise:pool=8: its median TTFT is 0.5")
    assert "95% interval 0." in text
    assert "6 pairs of runs" in text
    assert "(store shaped+file:///var/tmp/kv?latency_ms=2&stream_mbps=300, workload shared_prefix:" in text


def test_the_headline_says_so_where_the_first_arm_is_faster(tmp_path: Path) -> None:
    run = run_of(tmp_path, mean_s={TWO[0]: 0.2, TWO[1]: 0.4})
    assert report.headline(run).startswith("chunkwise:pool=8 gives the first token sooner than layerwise:depth=4, whose median")


def test_equal_arms_are_not_called_different(tmp_path: Path) -> None:
    run = run_of(tmp_path, mean_s={TWO[0]: 0.3, TWO[1]: 0.3}, noise=0.05)
    assert report.headline(run).startswith("no difference could be shown between layerwise:depth=4 and chunkwise:pool=8")
    assert "~" in shown(run)


def test_the_headline_holds_the_fastest_against_the_runner_up(tmp_path: Path) -> None:
    arms = ("chunkwise:pool=0", *TWO)
    means = {"chunkwise:pool=0": 0.9, TWO[0]: 0.3}
    apart = report.headline(run_of(tmp_path / "apart", arms, mean_s={**means, TWO[1]: 0.2}))
    assert "; next comes chunkwise:pool=8 at 1." in apart
    alike = report.headline(run_of(tmp_path / "alike", arms, mean_s={**means, TWO[1]: 0.3}, noise=0.05))
    assert "no difference could be shown (" in alike
    assert "sooner than chunkwise:pool=0" in alike


def test_a_bound_never_wins(tmp_path: Path) -> None:
    text = report.headline(run_of(tmp_path, ("layerwise:depth=4", "floor"), mean_s={"floor": 0.01}))
    assert text.startswith("only layerwise:depth=4 was measured, so there is nothing to compare: median TTFT")


def test_one_arm_and_one_request_give_a_report(tmp_path: Path) -> None:
    run = run_of(tmp_path, TWO[:1], rounds=1, prompts=1, spans=True)
    report.render(tmp_path)
    assert report.headline(run).startswith("only chunkwise:pool=8 was measured")
    assert "over 1 request in 1 run " in report.headline(run)
    row = rows_of_csv(tmp_path / "summary.csv")[0]
    assert float(row["mean_s"]) == pytest.approx(run.requests["ttft_s"][0])
    assert row["p50_s"] == row["mean_low_s"] == row["mean_high_s"] == ""


def test_one_request_an_arm_is_compared_by_its_mean_and_called_chance(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=1, prompts=1)
    text = report.headline(run)
    assert "the ratio of their mean TTFTs is" in text
    assert "1 pair of runs says nothing about chance" in text
    assert "(unknown)" in shown(run)


def test_a_void_measurement_is_called_void_and_tells_no_number(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=1, void={0: "other KV than was saved", 1: "other KV than was saved"})
    files = report.render(tmp_path)
    assert report.headline(run) == "VOID: the numbers of this measurement do not count (other KV than was saved)."
    assert {file.name for file in files} == {"summary.csv", "report.md"}
    assert all(row["mean_s"] == "" and row["requests"] == "0" for row in rows_of_csv(tmp_path / "summary.csv"))
    assert "VOID: 2 of 2 runs (0, 1) do not count" in shown(run)


def test_void_runs_are_shouted_and_left_out(tmp_path: Path) -> None:
    run = run_of(tmp_path, void={3: "other KV than was saved"})
    assert report.headline(run).startswith("VOID RUNS LEFT OUT (1 of 12): ")
    assert "5 pairs of runs" in report.headline(run)


def test_a_run_that_was_cut_off_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path, stop_after=12 * 4 + 5)
    assert report.headline(run).startswith("PARTIAL, the measurement was cut off: ")
    assert "2 pairs of runs" in report.headline(run)
    assert "run 4 (chunkwise:pool=8) is left out: interrupted" in shown(run).replace("\n", " ")


def test_failed_requests_are_counted_in_the_headline(tmp_path: Path) -> None:
    run = run_of(tmp_path, failed={(0, 2): "the store is gone"})
    assert report.headline(run).startswith("RUNS WITH FAILED REQUESTS LEFT OUT (1 of 12): ")
    assert "the store is gone" in shown(run)


def test_an_arm_whose_every_run_failed_gives_no_verdict(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=1, prompts=2, failed={(0, 0): "boom"})
    assert "only layerwise:depth=4 was measured" in report.headline(run)
    assert "chunkwise:pool=8 has no request that counts" in shown(run)


def test_a_first_arm_that_is_lost_gives_no_verdict(tmp_path: Path) -> None:
    arms = (*TWO, "layerwise:depth=1")
    run = run_of(tmp_path, arms, rounds=1, failed={(0, 0): "boom"})
    assert "no verdict, since no request of chunkwise:pool=8, which the others are compared with, counts" in report.headline(run)


def test_arms_that_share_no_round_give_no_verdict(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=2, void={0: "x", 2: "x"})
    assert "no verdict, since no other arm ran in one round with chunkwise:pool=8" in report.headline(run)


def test_wrong_tokens_give_no_verdict(tmp_path: Path) -> None:
    run = run_of(tmp_path, meta={"correctness": {"status": "failed", "detail": "prompt p001 differs"}})
    assert report.headline(run).startswith("NO VERDICT: the correctness pass failed")
    assert "CORRECTNESS FAILED: prompt p001 differs" in shown(run)


def test_a_run_without_a_row_gives_a_report(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=0)
    assert report.headline(run).startswith("no verdict, since no request")
    assert {file.name for file in report.render(tmp_path)} == {"summary.csv", "report.md"}


def test_p99_of_few_requests_is_a_dash_with_a_warning(tmp_path: Path) -> None:
    text = shown(run_of(tmp_path))
    line = next(line for line in text.splitlines() if line.lstrip().startswith("chunkwise:pool=8"))
    assert line.split()[4] == "-"
    assert "p99 (100); the shortest run has 12" in text


def test_odd_names_are_text_everywhere(tmp_path: Path) -> None:
    arms = ("chunkwise:[bold]x[/bold] |y|", "layerwise:<script>alert(1)</script>", "layerwise:\x1b[31m漢字")
    run = run_of(tmp_path, arms, rounds=2, prompts=3)
    files = report.render(tmp_path)
    assert "[bold]x[/bold] |y|" in shown(run, 200)
    assert "\x1b" not in shown(run, 200) + report.headline(run)
    assert {row["arm"] for row in rows_of_csv(tmp_path / "summary.csv")} == set(arms)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text.replace("ttft compare --arm", "", 1).split("## To reproduce it")[0]
    assert "\x1b" not in text
    cells = [line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| chunkwise")]
    assert len(set(cells[:1])) == 1
    assert len(files) > 2


def test_secrets_are_in_no_file(tmp_path: Path) -> None:
    url = "redis://user:hunter2@host:6379/0"
    meta = {"config": {"store": url}, "command": f"ttft compare --store '{url}'", "warnings": [f"{url} was slow"]}
    write_synthetic_run(tmp_path, TWO, rounds=1, prompts=2, meta=meta)
    for file in report.render(tmp_path):
        assert b"hunter2" not in file.read_bytes()
    assert "redis://user:***@host:6379/0" in (tmp_path / "report.md").read_text(encoding="utf-8")


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
    assert text.splitlines()[2].startswith("**layerwise:depth=4 gives the first token sooner than chunkwise:pool=0")


def test_every_table_of_the_markdown_has_as_many_cells_in_each_row(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, ("chunkwise:a|b", *FIVE[2:]))
    widths: list[set[int]] = [set()]
    for line in markdown_of(summary, []).splitlines():
        if line.startswith("|"):
            widths[-1].add(line.replace("\\|", "").count("|"))
        elif widths[-1]:
            widths.append(set())
    assert [len(width) for width in widths if width] == [1, 1, 1, 1]


def test_what_is_no_run_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"run\.json"):
        report.render(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, TWO, rounds=1, prompts=2, spans=False)
    (tmp_path / "pictures").write_text("in the way")
    with pytest.raises(ResultsError, match="pictures cannot be written"):
        report.render(tmp_path)


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
