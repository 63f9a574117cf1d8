"""Code against code with real vLLM: two copies of this tree, one of which waits before every load, in one job."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import SMALL_MODEL, complaints

from harness.results import load

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
ARM = "layerwise:depth=4"
FIRST_LINE = '        """Let the readers start on the first ``depth`` layers and return."""\n'


def copy_of_this_tree(target: Path, delay_s: float) -> Path:
    """What is installed of it, with a delay in ``layerwise``."""
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "cli.py"):
        shutil.copy(ROOT / name, target)
    shutil.copytree(ROOT / "harness", target / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    engine = target / "harness" / "engines" / "layerwise.py"
    text = engine.read_text(encoding="utf-8")
    assert text.count(FIRST_LINE) == 1
    delayed = f'{FIRST_LINE}        __import__("time").sleep({delay_s})\n'
    engine.write_text(text.replace(FIRST_LINE, delayed), encoding="utf-8")
    return target


def test_a_slower_version_is_found(tmp_path: Path) -> None:
    base, head = (copy_of_this_tree(tmp_path / name, delay_s) for name, delay_s in (("base", 0.0), ("head", 0.3)))
    command = [sys.executable, "-m", "harness", "ab", "--base-path", str(base), "--head-path", str(head), "--arm", ARM]
    command += [
        "--max",
        "p50:20%",
        "--pairs",
        "6",
        "--workload",
        "shared_prefix:groups=2,prefix=512,suffix=40,prompts=5,output=2",
    ]
    command += ["--set", f"model='{SMALL_MODEL}'", "--set", "dtype=float32", "--set", "kv_cache_gib=0.25"]
    command += ["--store", f"file://{tmp_path / 'kv'}", "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert complaints(ended.stderr) == []
    run = load(tmp_path / "run")
    assert (run.meta["status"], run.void_runs, run.meta["warnings"]) == ("complete", {}, [])
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["outcome"] == "FAIL"
    lanes = run.meta["lanes"]
    assert lanes["base"]["digest"] != lanes["head"]["digest"]
    assert all(idle_cpu_s < 1 for idle_cpu_s in run.meta["idle_cpu_s"].values())  # stopped, it is not only idle
    medians = run.counted.groupby("arm")["ttft_s"].median()
    assert medians[f"{ARM}@head"] - medians[f"{ARM}@base"] > 0.15
    assert run.counted.groupby("prompt")["output_digest"].nunique().eq(1).all()
    assert [path for path in (tmp_path / "kv").rglob("*.kv") if path.is_file()] == []
