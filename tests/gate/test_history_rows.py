"""A verdict as rows of a history."""

from pathlib import Path

import pytest

from harness.core.findings import Kind, found
from harness.gate import judge, judge_run, refused
from harness.gate.history import COLUMNS, machine_digest, rows_of
from harness.results import Measurement, load
from harness.stats import compare
from harness.testing.frames import make_frame
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=0", "layerwise:depth=4")


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_SHA", "CI_COMMIT_SHA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path: Path) -> Measurement:
    path = write_synthetic_run(tmp_path / "run", arms=ARMS, rounds=6, prompts=12, spans=False)
    return load(path)


def test_one_row_a_metric(run: Measurement) -> None:
    margins = {"p50": 0.05, "mean": 0.1}
    verdict = judge_run(run, ARMS[1], ARMS[0], margins)
    rows = rows_of(verdict, margins, run, "abc")
    assert [row["metric"] for row in rows] == ["p50", "mean"]
    for row, metric in zip(rows, verdict.metrics, strict=True):
        assert list(row) == list(COLUMNS)
        assert (row["ratio"], row["low"], row["high"]) == (metric.ratio, metric.low, metric.high)
        assert (row["margin"], row["outcome"], row["n_pairs"]) == (margins[metric.metric], "PASS", 6)
        assert (row["arm"], row["base"], row["run"], row["commit"]) == (ARMS[1], ARMS[0], "synthetic", "abc")
        assert row["time"] == "2026-01-02T03:04:05+00:00"
        assert row["machine"] == machine_digest(run.meta["machine"])


def test_a_refusal_is_a_row_without_numbers(run: Measurement) -> None:
    rows = rows_of(refused("a", "b", [found(Kind.RECORDED, text="hits differ")]), {"p50": 0.05, "p95": 0.1}, run)
    assert [(row["metric"], row["outcome"], row["ratio"], row["low"]) for row in rows] == [
        ("p50", "REFUSED", None, None),
        ("p95", "REFUSED", None, None),
    ]


def test_a_bound_that_is_not_known_is_empty(run: Measurement) -> None:
    frame = make_frame({"a": 1.0, "b": 1.0}, pairs=1)
    (row,) = rows_of(judge(compare(frame, "a", "b", ["p50"]), {"p50": 0.05}), {"p50": 0.05}, run)
    assert row["ratio"] is not None and row["low"] is None and row["high"] is None


def test_the_commit_is_the_label_or_what_the_ci_says(run: Measurement, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(label: str | None = None) -> object:
        return rows_of(refused("a", "b", [found(Kind.RECORDED, text="why")]), {"p50": 0.05}, run, label)[0]["commit"]

    assert commit() == ""
    monkeypatch.setenv("CI_COMMIT_SHA", "gitlab")
    assert commit() == "gitlab"
    monkeypatch.setenv("GITHUB_SHA", "github")
    assert commit() == "github"
    assert commit("by hand") == "by hand"


def test_machines_are_told_apart_whatever_the_order_of_their_parts() -> None:
    assert machine_digest({"cpu": "C", "cores": 2}) == machine_digest({"cores": 2, "cpu": "C"})
    assert machine_digest({"cpu": "C", "cores": 2}) != machine_digest({"cpu": "C", "cores": 4})
    assert len(machine_digest({})) == 12
