"""From rounds to estimates, tables and the picture."""

import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import SETTINGS, rounds_of

import cli
from harness.core.errors import ResultsError
from harness.reporting.figures.store_bench import draw_bench, picture_of
from harness.stores._bench import Cell, Summary, fit_link, notes
from harness.stores._bench.tables import batches_table, fit_lines, lines, rates_table
from harness.stores.base import open_store

GOLDEN = Path(__file__).parents[2] / "goldens" / "store_bench.txt"


def time_of(cell: Cell, number: int) -> float:
    """2 ms a call and 300 MB/s; as much at once as there are callers; a machine that gets slower round by round."""
    bytes_s = 0.0 if cell.action == "exists" else cell.size / 300e6
    latency_s = 1e-4 if cell.action == "limit" else 2e-3
    return (latency_s / cell.batch + bytes_s) / (cell.callers * cell.in_flight) * (1 + 0.05 * number)


@pytest.fixture
def summary() -> Summary:
    return Summary(rounds_of(time_of))


def test_a_ratio_is_paired_by_round(summary: Summary) -> None:
    found = summary.ratio(Cell("read", 4096, 4), Cell("read", 4096))
    assert found.value == pytest.approx(4)
    assert found.low == pytest.approx(found.high)  # the drift is the same in both


def test_an_estimate_has_the_rounds_within(summary: Summary) -> None:
    rate = summary.bytes_per_s(Cell("read", 1 << 20))
    best = (1 << 20) / time_of(Cell("read", 1 << 20), 0)
    assert rate.low < rate.value < rate.high <= best * 1.001


def test_what_the_terminal_shows(summary: Summary) -> None:
    console = Console(width=140, file=StringIO(), highlight=False)
    fit = fit_link({size: summary.seconds_a_key(Cell("read", size)) for size in SETTINGS.sizes})
    console.print(rates_table(summary, "fio"))
    console.print(batches_table(summary))
    for line in lines(summary, fit, [*notes(5, 9), "limit: what fio says"]):
        console.print(line, markup=False, soft_wrap=True)
    assert isinstance(console.file, StringIO)
    shown = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
    assert shown == GOLDEN.read_text()


def test_nothing_is_said_beside_enough_rounds() -> None:
    assert notes(9, 9) == []


def test_the_picture_has_a_line_a_size(summary: Summary) -> None:
    picture = picture_of(summary, None, "file:///kv", "fio")
    labels = {str(text.get_text()) for legend in picture.legends for text in legend.get_texts()}
    assert labels == {"4 KiB", "64 KiB", "1 MiB", "exists"}
    assert [axes.get_title(loc="left") for axes in picture.axes] == [
        "One call, one thread", "Blocking reads", "Asynchronous reads", "One call for several keys, over one call per key",
    ]  # fmt: skip


def test_the_picture_is_written(summary: Summary, tmp_path: Path) -> None:
    fit = fit_link({size: summary.seconds_a_key(Cell("read", size)) for size in SETTINGS.sizes})
    files = draw_bench(summary, fit, "file:///kv", "", tmp_path)
    assert [file.name for file in files] == ["bench.png", "bench.svg"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="the pictures cannot be written to"):
        draw_bench(summary, fit, "file:///kv", "", tmp_path / "file")


def test_sizes_too_small_to_tell_the_bandwidth_are_told() -> None:
    summary = Summary(rounds_of(lambda cell, number: 2e-3 / cell.batch))
    fit = fit_link({size: summary.seconds_a_key(Cell("read", size)) for size in SETTINGS.sizes})
    assert fit is not None
    told = fit_lines(fit, summary)
    assert "these sizes do not show a stream's bandwidth" in told[-1]
    assert len(fit_lines(fit_link({4096: [1e-3] * 6, 1 << 20: [1.0] * 6}), summary)) == 3


def test_predict_is_told_nothing_where_larger_objects_took_less_time(summary: Summary) -> None:
    fit = fit_link({4096: [2e-3] * 6, 1 << 20: [1e-3] * 6})
    told = fit_lines(fit, summary)
    assert "bytes / no bound" in told[0]
    assert not [line for line in told if "ttft predict" in line]  # it refuses a stream without a bound
    assert "these sizes do not show a stream's bandwidth" in told[-1]


def test_what_shaped_and_predict_are_told_is_understood(
    summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed options of shaped+ open a store, and those of predict make a prediction."""
    fit = fit_link({size: summary.seconds_a_key(Cell("read", size)) for size in SETTINGS.sizes})
    options = dict(line.split(": ", 1) for line in fit_lines(fit, summary) if line.startswith("for "))
    open_store(f"shaped+file://{tmp_path}/kv?{options['for shaped+']}").close()
    geometry = ["--layers", "4", "--layer-kib", "4", "--compute-ms", "100"]
    monkeypatch.setattr(sys, "argv", ["ttft", "predict", *options["for ttft predict"].split(), *geometry])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None), capsys.readouterr()
