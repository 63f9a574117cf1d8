"""Hits apart from misses, recomputed here from the raw rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.reporting.hits import hits
from harness.reporting.markdown import report
from harness.reporting.page.story import page
from harness.reporting.summary import Summary, summarise
from harness.reporting.verdict import headline
from harness.results import load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

ARMS = ["chunkwise:pool=0", "layerwise:depth=4", "recompute"]


def summary_of(folder: Path, misses: int, **more: Any) -> Summary:
    return summarise(
        gather(load(write_synthetic_run(folder / "run", ARMS, rounds=6, prompts=24, misses=misses, spans=False, **more)))
    )


@pytest.mark.parametrize("misses", [0, 24])
def test_where_all_hit_or_none_does_there_is_no_table(tmp_path: Path, misses: int) -> None:
    assert hits(summary_of(tmp_path, misses)) is None


def test_the_numbers_are_those_of_the_rows(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, 10)
    grid = hits(summary)
    assert grid is not None
    assert grid.head[1::2] == ["hits, 14 requests per run: p50 (ms)", "misses, 10 requests per run: p50 (ms)"]
    rows = summary.evidence.rows
    expected = rows["prompt"].isin([f"p{position:03d}" for position in range(14)])
    for held, column in ((expected, 1), (~expected, 3)):
        middle = {arm: some.groupby("round")["ttft_s"].median() for arm, some in rows[held].groupby("arm")}
        for row in grid.rows:
            mine = middle[row[0].text.removesuffix(" †")]
            assert float(row[column].text) == pytest.approx(1e3 * float(np.median(mine)), rel=0.05)
            if row[0].text == ARMS[0]:
                assert row[column + 1].text == "1"
                continue
            ratio = float(np.median(mine / middle[ARMS[0]]))
            assert float(row[column + 1].text.removeprefix("~")) == pytest.approx(ratio, rel=0.05)
            low, high = map(float, row[column + 1].below.split(" to "))
            assert low <= ratio <= high


def test_hits_gain_and_misses_do_not(tmp_path: Path) -> None:
    grid = hits(summary_of(tmp_path, 10))
    assert grid is not None
    layerwise = next(row for row in grid.rows if row[0].text == ARMS[1])
    assert float(layerwise[2].text) < 0.9
    assert layerwise[4].text.startswith("~")


def test_few_requests_of_a_kind_are_told_by_their_mean(tmp_path: Path) -> None:
    grid = hits(summary_of(tmp_path, 1))
    assert grid is not None
    assert grid.head[3] == "misses, 1 request per run: mean (ms)"


def test_an_arm_without_a_run_that_counts_has_dashes(tmp_path: Path) -> None:
    grid = hits(summary_of(tmp_path, 10, void=dict.fromkeys((1, 4, 7, 10, 13, 16), "a proof failed")))
    assert grid is not None
    layerwise = next(row for row in grid.rows if row[0].text == ARMS[1])
    assert [cell.text for cell in layerwise[1:]] == ["-"] * 4


def test_a_hit_is_one_also_where_the_round_has_none_but_recompute(tmp_path: Path) -> None:
    """Of rounds 0 and 1 (runs 0 to 2, 3 to 5) the other arms are void."""
    grid = hits(summary_of(tmp_path, 10, void=dict.fromkeys((0, 1, 4, 5), "a proof failed")))
    assert grid is not None
    assert grid.head[1::2] == ["hits, 14 requests per run: p50 (ms)", "misses, 10 requests per run: p50 (ms)"]


def test_the_report_and_the_page_show_it(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, 10)
    assert "## Requests that hit, and requests that miss" in report(summary, headline(summary), [])
    assert "Requests that hit, and requests that miss" in page(summary, headline(summary), [])
