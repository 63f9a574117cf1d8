"""The one sentence: right about who is faster, honest about what is missing."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import report
from harness.commands.report import say
from harness.reporting.verdict import State
from harness.results import Measurement, load
from harness.testing.runs import write_synthetic_run

TWO = ("chunkwise:pool=8", "layerwise:depth=4")


def run_of(folder: Path, arms: tuple[str, ...] = TWO, **more: Any) -> Measurement:
    return load(write_synthetic_run(folder, arms, **{"spans": False, **more}))


def headline(run: Measurement) -> str:
    return report.of(run).headline.text


def shown(run: Measurement, capsys: pytest.CaptureFixture[str]) -> str:
    """What the terminal shows, with all white space as one blank."""
    say(report.of(run))
    return " ".join(capsys.readouterr().out.split())


def test_the_headline_names_the_faster_arm_the_interval_the_store_and_the_workload(tmp_path: Path) -> None:
    run = run_of(tmp_path, mean_s={TWO[0]: 0.4, TWO[1]: 0.2})
    said = report.of(run).headline
    assert (
        said.text.startswith("layerwise:depth=4: ") and "% lower TTFT, 2.0 times faster than chunkwise:pool=8 (p50 " in said.text
    )
    assert "% lower, 6 pairs of runs)." in said.text and "95% interval " in said.text
    assert "\n" not in said.text and said.state is State.GOOD
    assert said.place.startswith("store shaped+file:///var/tmp/kv?latency_ms=2&stream_mb_s=300 · workload shared_prefix:")


def test_the_headline_says_so_where_the_first_arm_is_faster(tmp_path: Path) -> None:
    run = run_of(tmp_path, mean_s={TWO[0]: 0.2, TWO[1]: 0.4})
    assert re.match(r"chunkwise:pool=8: \d\d% lower TTFT, [\d.]+ times faster than layerwise:depth=4 \(p50 ", headline(run))


@settings(deadline=None, max_examples=20)
@given(ratio=st.floats(0.02, 50))
def test_percent_and_times_say_what_was_measured(ratio: float) -> None:
    """Both ways round, from the numbers of the sentence itself."""
    with TemporaryDirectory() as folder:
        text = headline(run_of(Path(folder) / "run", rounds=6, prompts=4, noise=0.0, mean_s={TWO[0]: 0.4, TWO[1]: 0.4 * ratio}))
    found = re.search(r": (?P<lower>[\d.e-]+)% lower TTFT(, (?P<times>[\d.]+) times faster)? than .* instead of", text)
    if found is None:
        assert text.startswith("No difference shown")
        return
    assert text.startswith(TWO[1] if ratio < 1 else TWO[0])
    part = 1 - float(found["lower"]) / 100
    assert part == pytest.approx(min(ratio, 1 / ratio), abs=0.012)
    if found["times"]:
        assert float(found["times"]) == pytest.approx(max(ratio, 1 / ratio), rel=0.06)


def test_equal_arms_are_not_called_different(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, mean_s={TWO[0]: 0.3, TWO[1]: 0.3}, noise=0.05)
    assert headline(run).startswith("No difference shown between layerwise:depth=4 and chunkwise:pool=8 (p50 ratio ")
    assert "~ the 95% interval includes 1: this difference may be chance" in shown(run, capsys)


def test_the_headline_holds_the_fastest_against_the_runner_up(tmp_path: Path) -> None:
    arms = ("chunkwise:pool=0", *TWO)
    means = {"chunkwise:pool=0": 0.9, TWO[0]: 0.3}
    (apart,) = report.of(run_of(tmp_path / "apart", arms, mean_s={**means, TWO[1]: 0.2})).headline.more
    assert apart.startswith("Second is chunkwise:pool=8 (1.")
    alike = report.of(run_of(tmp_path / "alike", arms, mean_s={**means, TWO[1]: 0.3}, noise=0.05)).headline
    assert alike.more[0].startswith("No difference shown between ")
    assert "faster than chunkwise:pool=0" in alike.text


def test_an_arm_that_is_shown_to_be_slower_is_named_whoever_is_fastest(tmp_path: Path) -> None:
    arms = ("chunkwise:pool=0", *TWO)
    slow = {TWO[1]: 0.6}
    same, slower = {"chunkwise:pool=0": 0.3, TWO[0]: 0.3}, "Slower than chunkwise:pool=0: layerwise:depth=4 ("
    alike = report.of(run_of(tmp_path / "alike", arms, mean_s={**same, **slow}, noise=0.05)).headline
    assert alike.text.startswith("No difference shown between chunkwise:pool=8 and chunkwise:pool=0")
    assert alike.more[-1].startswith(slower) and alike.state is State.OPEN
    faster = report.of(run_of(tmp_path / "faster", arms, mean_s={"chunkwise:pool=0": 0.3, TWO[0]: 0.2, **slow})).headline
    assert faster.more[-1].startswith(slower)
    neither = report.of(run_of(tmp_path / "neither", arms, mean_s={**same, TWO[1]: 0.3}, noise=0.05)).headline
    assert neither.more == ()


def test_a_bound_never_wins(tmp_path: Path) -> None:
    text = headline(run_of(tmp_path, ("layerwise:depth=4", "floor"), mean_s={"floor": 0.01}))
    assert text.startswith("Nothing to compare: only layerwise:depth=4 was measured (p50 ")


def test_one_request_an_arm_is_compared_by_its_mean_and_called_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, rounds=1, prompts=1)
    text = headline(run)
    assert "(mean ratio " in text
    assert "1 pair of runs says nothing about chance" in text
    assert "(unknown)" in shown(run, capsys)


def test_void_runs_are_shouted_and_left_out(tmp_path: Path) -> None:
    run = run_of(tmp_path, void={3: "other KV than was saved"})
    assert headline(run).startswith("VOID RUNS EXCLUDED (1 of 12): ")
    assert "5 pairs of runs" in headline(run)


def test_a_run_that_was_cut_off_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, stop_after=12 * 4 + 5)
    assert headline(run).startswith("PARTIAL, the measurement was cut off: ")
    assert "2 pairs of runs" in headline(run)
    assert "run 4 (chunkwise:pool=8) is excluded: interrupted" in shown(run, capsys)


def test_failed_requests_are_counted_in_the_headline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, failed={(0, 2): "the store is gone"})
    assert headline(run).startswith("RUNS WITH FAILED REQUESTS EXCLUDED (1 of 12): ")
    assert "the store is gone" in shown(run, capsys)


def test_an_arm_whose_every_run_failed_gives_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, rounds=1, prompts=2, failed={(0, 0): "boom"})
    assert "only layerwise:depth=4 was measured" in headline(run)
    assert "chunkwise:pool=8 has no request that counts" in shown(run, capsys)


def test_a_first_arm_that_is_lost_gives_no_verdict(tmp_path: Path) -> None:
    arms = (*TWO, "layerwise:depth=1")
    run = run_of(tmp_path, arms, rounds=1, failed={(0, 0): "boom"})
    assert "No verdict: no request of chunkwise:pool=8, which the others are compared with, counts." in headline(run)


def test_arms_that_share_no_round_give_no_verdict(tmp_path: Path) -> None:
    run = run_of(tmp_path, rounds=2, void={0: "x", 2: "x"})
    assert "No verdict: no other arm ran in one round with chunkwise:pool=8." in headline(run)


def test_wrong_tokens_give_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, meta={"correctness": {"status": "failed", "detail": "prompt p001 differs"}})
    assert headline(run).startswith("NO VERDICT: the correctness pass failed")
    assert "CORRECTNESS FAILED: prompt p001 differs" in shown(run, capsys)


def test_what_takes_numbers_away_is_bold_and_red(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    say(report.of(run_of(tmp_path, void={3: "other KV than was saved"})))
    assert "\x1b[1;31m! VOID: 1 of 12 runs excluded (run 3): other KV than was saved\x1b[0m" in capsys.readouterr().out


def test_negative_load_hidden_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = ("chunkwise:pool=0", "layerwise:depth=4", "chunkwise:pool=8", "floor")
    means = dict(zip(arms, (0.4, 0.5, 0.4, 0.2), strict=True))
    text = shown(run_of(tmp_path, arms, mean_s=means, noise=0.01), capsys)
    assert "load hidden below 0%: the arm hides nothing and takes longer than chunkwise:pool=0" in text


def test_an_arm_behind_the_first_one_is_not_called_second(tmp_path: Path) -> None:
    arms = ("chunkwise:pool=0", *TWO)
    means = dict(zip(arms, (0.3, 0.5, 0.2), strict=True))
    said = report.of(run_of(tmp_path, arms, mean_s=means)).headline
    assert said.text.startswith("layerwise:depth=4: ")
    (more,) = said.more
    assert more.startswith("Slower than chunkwise:pool=0: chunkwise:pool=8 (1.")
