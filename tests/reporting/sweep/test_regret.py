"""What choosing costs, from made-up runs: the ratio to the best fixed arm of each point, and nothing without a chooser."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from made_up_sweep import ARMS, made_up

from harness.reporting.sweep.outputs import write_outputs
from harness.reporting.sweep.regret import regrets
from harness.reporting.sweep.table import measured_points


def world(values: Mapping[str, str], arm: str) -> float:
    """Chunkwise is best at 1 request, layerwise at 4; auto takes 1.02 of the best at 1 and 1.2 at 4."""
    alone = values["concurrency"] == "1"
    if arm.startswith("auto"):
        return 0.5 * (1.02 if alone else 1.2)
    return 0.5 if arm.startswith("chunkwise") == alone else 0.8


def test_each_point_has_its_own_best_arm(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,4"], world, arms=[*ARMS, "auto"])
    found = regrets(measured_points(state)[0], "p50")
    assert [(one.arm, one.best) for one in found] == [("auto", ARMS[0]), ("auto", ARMS[1])]
    assert [one.found.ratio for one in found] == [pytest.approx(1.02, rel=0.02), pytest.approx(1.2, rel=0.02)]
    lines = write_outputs(state).lines
    assert lines[-1].startswith("- auto takes at most 1.050 of the best fixed arm's time at 1 of 2 points; the most is 1.")
    assert lines[-1].endswith(", at concurrency=4")
    text = (tmp_path / "sweep.md").read_text(encoding="utf-8")
    assert "## What choosing costs" in text
    assert "| concurrency | arm | best fixed arm | arm / best (95%) |" in text


def test_without_an_arm_that_chooses_nothing_is_said(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,4"], world)
    assert regrets(measured_points(state)[0], "p50") == []
    write_outputs(state)
    assert "choosing costs" not in (tmp_path / "sweep.md").read_text(encoding="utf-8")
