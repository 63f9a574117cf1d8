"""The table of what arms chose, recomputed from the rows."""

from pathlib import Path

import pandas as pd

from harness.reporting.choices import choices
from harness.reporting.markdown import report
from harness.reporting.summary import summarise
from harness.reporting.verdict import headline
from harness.results import load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

ARMS = ["chunkwise:pool=0", "layerwise:depth=4"]
HYBRID, POOL = "hybrid:k=2,readers=8,groups=6", "chunkwise:pool=8"


def test_without_a_choice_there_is_no_table(tmp_path: Path) -> None:
    assert choices(summarise(gather(load(write_synthetic_run(tmp_path / "run", ARMS, rounds=2, prompts=8))))) is None


def test_it_says_how_often_each_way_was_chosen_and_why_the_median_request_was(tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path / "run", ARMS, rounds=2, prompts=8)
    rows = pd.read_csv(folder / "requests.csv", dtype=str, keep_default_na=False)
    mine = rows["arm"] == ARMS[1]
    pool = mine & (rows["position"].astype(int) < 2)
    rows.loc[mine, "how"], rows.loc[pool, "how"] = HYBRID, POOL
    rows.loc[mine, "why"] = "because of " + rows["run"] + "/" + rows["position"]
    rows.to_csv(folder / "requests.csv", index=False)
    summary = summarise(gather(load(folder)))
    table = choices(summary)
    assert table is not None
    told = [[cell.text for cell in row] for row in table.rows]
    assert [row[:4] for row in told] == [[ARMS[1], "hybrid", "75%", HYBRID], [ARMS[1], "chunkwise", "25%", POOL]]
    assert [row[2].below for row in table.rows] == ["of 16 requests"] * 2
    times = rows.loc[mine & ~pool].assign(ttft_s=lambda some: some["ttft_s"].astype(float)).sort_values("ttft_s")
    assert told[0][4] == times["why"].iloc[(len(times) - 1) // 2]
    assert "What the arms chose, and why" in report(summary, headline(summary), [])
