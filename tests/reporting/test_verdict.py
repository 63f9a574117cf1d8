"""The one sentence: right about who is faster, honest about what is missing."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import report
from harness.results import Measurement, load
from harness.testing.runs import write_synthetic_run

TWO = ("chunkwise:pool=8", "layerwise:depth=4")


def run_of(folder: Path, arms: tuple[str, ...] = TWO, **more: Any) -> Measurement:
    return load(write_synthetic_run(folder, arms, **{"spans": False, **more}))


def shown(run: Measurement) -> str:
    """The terminal table with all white space as one blank: long warnings run over several lines."""
    console = Console(width=120, record=True, file=io.StringIO(), color_system=None, force_terminal=False)
    console.print(report.table(run))
    return " ".join(console.export_text().split())


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
    assert report.headline(run).startswith("No difference could be shown between layerwise:depth=4 and chunkwise:pool=8")
    assert "~" in shown(run)


def test_the_headline_holds_the_fastest_against_the_runner_up(tmp_path: Path) -> None:
    arms = ("chunkwise:pool=0", *TWO)
    means = {"chunkwise:pool=0": 0.9, TWO[0]: 0.3}
    apart = report.headline(run_of(tmp_path / "apart", arms, mean_s={**means, TWO[1]: 0.2}))
    assert "; next comes chunkwise:pool=8 at 1." in apart
    alike = report.headline(run_of(tmp_path / "alike", arms, mean_s={**means, TWO[1]: 0.3}, noise=0.05))
    assert "no difference could be shown (" in alike
    assert "sooner than chunkwise:pool=0" in alike


def test_an_arm_that_is_shown_to_be_later_is_named_whoever_is_soonest(tmp_path: Path) -> None:
    arms = ("chunkwise:pool=0", *TWO)
    slow = {TWO[1]: 0.6}
    alike = report.headline(run_of(tmp_path / "alike", arms, mean_s={"chunkwise:pool=0": 0.3, TWO[0]: 0.3, **slow}, noise=0.05))
    assert alike.startswith("No difference could be shown between chunkwise:pool=8 and chunkwise:pool=0")
    assert "; later than chunkwise:pool=0: layerwise:depth=4 (" in alike
    faster = report.headline(run_of(tmp_path / "faster", arms, mean_s={"chunkwise:pool=0": 0.3, TWO[0]: 0.2, **slow}))
    assert "; later than chunkwise:pool=0: layerwise:depth=4 (" in faster
    neither = report.headline(
        run_of(tmp_path / "neither", arms, mean_s={"chunkwise:pool=0": 0.3, TWO[0]: 0.3, TWO[1]: 0.3}, noise=0.05)
    )
    assert "later than" not in neither


def test_a_bound_never_wins(tmp_path: Path) -> None:
    text = report.headline(run_of(tmp_path, ("layerwise:depth=4", "floor"), mean_s={"floor": 0.01}))
    assert text.startswith("Only layerwise:depth=4 was measured, so there is nothing to compare: median TTFT")


def test_one_request_an_arm_is_compared_by_its_mean_and_called_chance(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=1, prompts=1)
    text = report.headline(run)
    assert "the ratio of their mean TTFTs is" in text
    assert "1 pair of runs says nothing about chance" in text
    assert "(unknown)" in shown(run)


def test_void_runs_are_shouted_and_left_out(tmp_path: Path) -> None:
    run = run_of(tmp_path, void={3: "other KV than was saved"})
    assert report.headline(run).startswith("VOID RUNS LEFT OUT (1 of 12): ")
    assert "5 pairs of runs" in report.headline(run)


def test_a_run_that_was_cut_off_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path, stop_after=12 * 4 + 5)
    assert report.headline(run).startswith("PARTIAL, the measurement was cut off: ")
    assert "2 pairs of runs" in report.headline(run)
    assert "run 4 (chunkwise:pool=8) is left out: interrupted" in shown(run)


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
