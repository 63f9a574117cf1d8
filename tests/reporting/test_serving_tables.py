"""Tables beside TTFT: there where they were asked for, with numbers that can be recomputed."""

from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.reporting import serving
from harness.reporting.figures import neighbours as picture
from harness.reporting.figures.style import paper
from harness.reporting.summary import Summary, summarise
from harness.results import load
from harness.results.evidence import gather
from harness.results.side_tables import append_neighbours
from harness.testing.runs import write_synthetic_run

ARMS = ["chunkwise:pool=0", "layerwise:depth=4", "floor"]


def summary_of(folder: Path, gaps: dict[str, float] | None = None, **config: Any) -> Summary:
    path = write_synthetic_run(
        folder / "run", ARMS, rounds=6, spans=False, meta={"config": {"store": "file:///tmp/kv", **config}}
    )
    run = load(path)
    for (number, pair), rows in run.requests.groupby(["run", "round"]):
        arm = str(rows["arm"].iloc[0])
        who = {"run": number, "round": pair, "arm": arm, "kind": "decode", "stream": 0}
        if gaps:
            append_neighbours(path, [who | {"at_s": 0.1 * i, "value_s": gaps[arm]} for i in range(30)])
    return summarise(gather(run))


def test_one_request_after_the_other_has_no_table_beside_ttft(tmp_path: Path) -> None:
    summary = summary_of(tmp_path)
    assert serving.service(summary) is None
    assert serving.neighbours(summary) is None
    with paper():
        assert picture.draw(summary.evidence) is None


@pytest.mark.parametrize("config", [{"concurrency": 4}, {"arrivals": "poisson:rate=2"}, {"slo": "ttft:1s"}, {"neighbours": 1}])
def test_what_overlaps_or_has_objectives_is_told_as_a_service(tmp_path: Path, config: dict[str, Any]) -> None:
    grid = serving.service(summary_of(tmp_path, **config))
    assert grid is not None
    assert [row[0].text for row in grid.rows] == ["chunkwise:pool=0", "layerwise:depth=4", "floor †"]
    assert all(len(row) == len(grid.head) for row in grid.rows)
    assert ("good/s" in grid.head) == ("slo" in config)


def test_goodput_is_the_share_that_met_the_objective(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, slo="ttft:200ms")
    grid = serving.service(summary)
    assert grid is not None
    rows = summary.evidence.rows
    for row, arm in zip(grid.rows, ARMS, strict=True):
        shares = (rows[rows["arm"] == arm]["ttft_s"] <= 0.2).groupby(rows["run"]).mean()
        assert row[-1].text == f"{100 * shares.median():.0f}%"


def test_gain_and_harm_stand_side_by_side(tmp_path: Path) -> None:
    gaps = {"chunkwise:pool=0": 0.2, "layerwise:depth=4": 0.03, "floor": 0.02}
    summary = summary_of(tmp_path, gaps, neighbours=1)
    grid = serving.neighbours(summary)
    assert grid is not None
    assert grid.head[-2:] == ["p95 / floor's", "its own p50 / first arm's"]
    found = {row[0].text: (row[2].text, row[-2].text, row[-1].text) for row in grid.rows}
    gain = next(arm for arm in summary.arms if arm.arm.name == "layerwise:depth=4").ratios["p50"].ratio
    assert found["chunkwise:pool=0"] == ("180", "10.00", "1")
    assert found["layerwise:depth=4"] == ("180", "1.50", f"{gain:.2f}")
    assert found["floor †"][1] == "1"


def test_the_report_shows_both_tables_and_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.reporting.figures.PICTURES", {})
    summary_of(tmp_path, dict.fromkeys(ARMS, 0.02), neighbours=1)
    written = report.of(load(tmp_path / "run")).write()
    assert {file.name for file in written} >= {"neighbours.png", "neighbours.svg"}
    for name in ("report.md", "report.html"):
        text = (tmp_path / "run" / name).read_text(encoding="utf-8")
        assert "The service as a whole" in text and "Gain and harm" in text
    assert "pictures/neighbours.png" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


def test_the_picture_names_shares_as_percentages(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, {"chunkwise:pool=0": 0.2, "layerwise:depth=4": 0.03, "floor": 0.02}, neighbours=1)
    with paper():
        drawn = picture.draw(summary.evidence)
        assert drawn is not None
        drawn.canvas.draw()
    labels = {label.get_text() for label in drawn.axes[0].get_yticklabels()}
    assert {"100%", "10%"} <= labels
