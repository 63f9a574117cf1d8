"""The gate on stored rows of a real run in which the truth is known: A, A again, and A slowed by 8 and by 16 ms."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from harness.results import load

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference" / "gate"
GOLDENS = ROOT / "tests" / "goldens"
BASE = "layerwise:depth=4"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy, so that a calibration beside the original has no say."""
    return shutil.copytree(REFERENCE, tmp_path / "gate")


@pytest.mark.parametrize(
    ("name", "candidate", "margin", "code"),
    [
        ("same", f"{BASE}@again", "p50:5%", 0),
        ("slower_by_5_percent", "delayed:depth=4,delay_ms=8", "p50:1%", 1),
        ("slower_by_10_percent", "delayed:depth=4,delay_ms=16", "p50:1%", 1),
        ("too_narrow_a_margin", f"{BASE}@again", "p50:1%", 3),
    ],
)
def test_the_stored_run_gets_its_verdict(run: Path, name: str, candidate: str, margin: str, code: int) -> None:
    options = ["gate", str(run), "--candidate", candidate, "--base", BASE, "--max", margin, "--out", str(run / "verdict")]
    ended = CliRunner().invoke(app, options)
    assert ended.exit_code == code, ended.output
    assert (run / "verdict" / "verdict.md").read_text() == (GOLDENS / f"gate_{name}.md").read_text()


def test_the_reference_tells_nothing_of_who_made_it() -> None:
    run = load(REFERENCE)
    assert (run.meta["correctness"]["status"], run.void_runs) == ("passed", {})
    text = (REFERENCE / "run.json").read_text()
    assert not [word for word in ("/home", "/root", "/work", "hostname") if word in text]
