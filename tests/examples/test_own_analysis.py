"""The example for pandas users: its numbers are those of the run, and it draws its picture."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from harness.results import load
from harness.testing.runs import write_synthetic_run

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "own_analysis.py"
ARMS = ["chunkwise:pool=0", "layerwise:depth=4"]


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_analysis", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_prints_quantiles_and_ratios_and_draws(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_synthetic_run(tmp_path / "run", ARMS, rounds=4, prompts=6, void={3: "x"})
    example.main(str(folder), str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").stat().st_size > 1000
    out = capsys.readouterr().out
    assert "p50" in out and "p95" in out and "over 4 rounds" in out and ARMS[1] in out


def test_its_numbers_are_the_runs_without_void_ones(example: ModuleType, tmp_path: Path) -> None:
    run = load(write_synthetic_run(tmp_path, ARMS, rounds=4, prompts=6, void={3: "x"}))
    rows = run.requests[run.requests["run"] != 3]
    medians = {(pair, arm): group["ttft_s"].median() for (pair, arm), group in rows.groupby(["round", "arm"])}
    quantiles, ratios = example.quantiles(run), example.paired_ratios(run, ARMS[0])
    assert quantiles.loc[ARMS[1], "p50"] == pytest.approx(1e3 * rows.loc[rows["arm"] == ARMS[1], "ttft_s"].median())
    assert list(ratios.columns) == ARMS[1:]
    for pair in (0, 2, 3):
        assert ratios.loc[pair, ARMS[1]] == pytest.approx(medians[pair, ARMS[1]] / medians[pair, ARMS[0]])
    assert ratios[ARMS[1]].isna().sum() == 1  # the round of the void run has nothing to be set against
