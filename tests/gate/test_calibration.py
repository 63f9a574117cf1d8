"""Noise floors from A against A, and their file."""

import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import ResultsError, SchemaMismatch, UsageError
from harness.gate import Outcome, judge
from harness.gate.calibration import Alarms, Calibration, NoiseFloor, calibrate, consulted, false_alarms, load, rate, save
from harness.stats import compare
from harness.testing.frames import make_frame

SAME = {"a": 1.0, "a@again": 1.0}


def calibrated(noise: float = 0.02, pairs: int = 20) -> Calibration:
    frame = make_frame(SAME, pairs=pairs, run_noise=noise, request_noise=0.01)
    return calibrate(frame, "a", "a@again", ["p50"], meta={"machine": {"cpu": "C"}, "else": 1})


def test_noise_is_that_of_a_pair() -> None:
    (floor,) = calibrated(pairs=60).floors
    assert floor.noise == pytest.approx(0.02 * 2**0.5, rel=0.35)
    assert floor.bias_low < 0 < floor.bias_high


def test_more_pairs_and_less_noise_hold_smaller_margins() -> None:
    (floor,) = calibrated().floors
    margins = [floor.margins[size] for size in sorted(floor.margins)]
    assert margins == sorted(margins, reverse=True)
    (quiet,) = calibrated(noise=0.005).floors
    assert quiet.margins[8] < floor.margins[8]


def test_an_unchanged_candidate_passes_at_the_floor() -> None:
    calibration = calibrated(pairs=40)
    margin = calibration.floor("p50", 8)
    assert margin is not None
    outcomes = []
    for seed in range(40):
        frame = make_frame(SAME, pairs=8, request_noise=0.01, seed=100 + seed)
        outcomes.append(judge(compare(frame, "a", "a@again", ["p50"]), {"p50": margin}).outcome)
    assert outcomes.count(Outcome.PASS) >= 28
    assert outcomes.count(Outcome.FAIL) <= 1


def test_floor_takes_the_next_smaller_number_of_pairs() -> None:
    calibration = calibrated()
    assert calibration.floor("p50", 9) == calibration.floor("p50", 8)
    assert calibration.floor("p50", 3) is None and calibration.floor("p90", 8) is None


def test_false_alarms_are_counted_over_disjoint_gates() -> None:
    frame = make_frame(SAME, pairs=40)
    assert false_alarms(frame, "a", "a@again", "p50", 0.05, 8).trials == 5
    assert false_alarms(frame, "a", "a@again", "p50", 0.05, 8).events == 0
    slower = make_frame({"a": 1.0, "a@again": 1.3}, pairs=40)
    assert false_alarms(slower, "a", "a@again", "p50", 0.05, 8).events == 5
    assert false_alarms(slower, "a@again", "a", "p50", 0.05, 8).events == 5
    with pytest.raises(UsageError, match="the run has 40 pairs, fewer than one gate of 50"):
        false_alarms(frame, "a", "a@again", "p50", 0.05, 50)


def test_rates_of_the_books() -> None:
    for events, trials, low, high in ((0, 20, 0, 0.1684), (20, 20, 0.8316, 1), (1, 10, 0.0025, 0.4450)):
        found = rate(events, trials)
        assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


def test_too_few_pairs() -> None:
    with pytest.raises(UsageError, match="7 pairs are too few to calibrate with"):
        calibrated(pairs=7)


def test_it_comes_back(tmp_path: Path) -> None:
    calibration = calibrated()
    save(calibration, tmp_path / "deep" / "c.json")
    assert load(tmp_path / "deep" / "c.json") == calibration
    assert calibration.machine == {"cpu": "C"}


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (None, ResultsError, "cannot be read: No such file"),
        ("{", ResultsError, "is not JSON"),
        ("[]", SchemaMismatch, r"is not of schema 1\.1"),
        ('{"schema": "2.0"}', SchemaMismatch, r"is not of schema 1\.1"),
        ('{"schema": "1.0"}', ResultsError, "lacks a part"),
        ('{"schema": "1.0", "floors": [{"margins": 3}]}', ResultsError, "lacks a part"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str | None, error: type[Exception], match: str) -> None:
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=match):
        load(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        save(calibrated(), tmp_path / "file" / "c.json")


def test_the_false_alarms_and_warnings_come_back(tmp_path: Path) -> None:
    counted = Alarms("p50", 0.05, 6, rate(1, 3))
    calibration = replace(calibrated(), arm="a", run="aa", alarms=(counted,), warnings=("read this",))
    save(calibration, tmp_path / "c.json")
    assert load(tmp_path / "c.json") == calibration


@given(
    st.dictionaries(st.integers(1, 500), st.floats(0, 1e6), min_size=1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.integers(0, 9),
)
@settings(deadline=None, max_examples=40)
def test_every_calibration_comes_back(margins: dict[int, float], bias: float, arm: str, events: int) -> None:
    floor = NoiseFloor("p50", abs(bias), bias, bias, bias, margins)
    calibration = Calibration(
        (floor,), 20, 0.05, {"cpu": arm}, {}, {}, arm, arm, (Alarms("p50", 0.1, 6, rate(events, 9)),), (arm,)
    )
    with TemporaryDirectory() as folder:
        save(calibration, Path(folder) / "c.json")
        assert load(Path(folder) / "c.json") == calibration


def test_a_file_of_the_first_schema_is_still_read(tmp_path: Path) -> None:
    save(calibrated(), tmp_path / "c.json")
    raw = json.loads((tmp_path / "c.json").read_text())
    for name in ("arm", "run", "alarms", "warnings"):
        del raw[name]
    (tmp_path / "c.json").write_text(json.dumps(raw | {"schema": "1.0"}))
    assert load(tmp_path / "c.json").floors == calibrated().floors


@pytest.mark.parametrize("number", ["NaN", "Infinity", '"small"', "null"])
def test_a_margin_that_is_no_number_is_refused(number: str, tmp_path: Path) -> None:
    save(calibrated(), tmp_path / "c.json")
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "c.json").write_text(re.sub(r'"8": [\d.e-]+', f'"8": {number}', text))
    with pytest.raises(ResultsError, match="lacks a part or has one too many"):
        load(tmp_path / "c.json")


def test_arms_that_are_not_alike_are_told() -> None:
    frame = make_frame({"a": 1.0, "b": 1.2}, pairs=20, request_noise=0.01)
    assert any("p50: A against A differs by +2" in text for text in calibrate(frame, "a", "b", ["p50"]).warnings)
    assert not any("differs by" in text for text in map(str, calibrated().warnings))


def test_the_file_beside_the_run_is_consulted_unless_another_is_given(tmp_path: Path) -> None:
    run = tmp_path / "results" / "run"
    assert consulted(None, run) is None
    save(calibrated(), tmp_path / "results" / "calibration.json")
    assert consulted(None, run) == calibrated()
    with pytest.raises(ResultsError, match=r"other\.json cannot be read"):
        consulted(tmp_path / "other.json", run)
