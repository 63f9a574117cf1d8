"""The load alone: TTFT less the floor's, recomputed here from the raw rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.reporting.loads import loads
from harness.reporting.markdown import report
from harness.reporting.summary import Summary, summarise
from harness.reporting.verdict import headline
from harness.results import load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

PEER = "lmcache"
ARMS = [PEER, "chunkwise:pool=8", "layerwise:depth=4", "floor"]
META: dict[str, Any] = {"peers": {PEER: {"files": 16, "stored_bytes": 32 << 20}}}


def summary_of(folder: Path, arms: list[str] = ARMS, meta: dict[str, Any] = META) -> Summary:
    path = write_synthetic_run(folder / "run", arms, rounds=6, spans=False, meta={"config": {"store": "file:///tmp/kv"}, **meta})
    return summarise(gather(load(path)))


def medians(summary: Summary) -> dict[str, "np.ndarray[Any, Any]"]:
    """By arm the median TTFT of each round, in seconds."""
    rows = summary.evidence.rows
    assert summary.metric == "p50"
    return {
        str(arm): some.groupby("round")["ttft_s"].median().to_numpy()  # Harrell and Davis' median is near the plain one
        for arm, some in rows.groupby("arm")
    }


def test_no_peer_or_no_floor_and_there_is_no_table(tmp_path: Path) -> None:
    assert loads(summary_of(tmp_path / "a", ["chunkwise:pool=8", "floor"], {})) is None
    assert loads(summary_of(tmp_path / "b", [PEER, "chunkwise:pool=8"])) is None


def test_the_numbers_are_those_of_the_rows(tmp_path: Path) -> None:
    summary = summary_of(tmp_path)
    grid = loads(summary)
    assert grid is not None
    found = {row[0].text: row for row in grid.rows}
    assert list(found) == ["lmcache", "chunkwise:pool=8", "layerwise:depth=4"]
    middle = medians(summary)
    for arm, row in found.items():
        assert all(len(row) == len(grid.head) for row in grid.rows)
        shown = float(row[1].text.split()[0]) / 1e3
        assert shown == pytest.approx(float(np.median(middle[arm] - middle["floor"])), rel=0.15)
        ratio = float(np.median((middle[arm] - middle["floor"]) / (middle[PEER] - middle["floor"])))
        assert float(row[2].text) == pytest.approx(ratio, rel=0.15)


def test_the_peer_is_its_own_measure_and_tells_its_bytes(tmp_path: Path) -> None:
    grid = loads(summary_of(tmp_path))
    assert grid is not None
    assert [cell.text for cell in grid.rows[0]][2:] == ["1", "32.0 MiB"]


def test_the_report_shows_it(tmp_path: Path) -> None:
    summary = summary_of(tmp_path)
    assert "## Loading alone: ours beside the peers" in report(summary, headline(summary), [])
