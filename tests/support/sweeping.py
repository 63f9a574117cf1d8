"""``ttft sweep`` on the lab's small experiment, for its tests."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_engine import CHUNKWISE, LAYERWISE, MODEL, SHORT, Lab

import cli


@pytest.fixture
def sweep(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Sweep":
    return Sweep(lab, capsys, monkeypatch)


class Sweep:
    """Runs ``ttft sweep`` on the lab's small experiment."""

    def __init__(self, lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._lab, self._capsys, self._monkeypatch = lab, capsys, monkeypatch
        self.folder = lab.home / "sweep"

    def measure(self, *words: str) -> tuple[int, str, str]:
        options = {"--workload": SHORT, "--store": self._lab.store_url, "--model": MODEL, "--pairs": "3"}
        if any(word.startswith("store=") for word in words):
            del options["--store"]
        every = [word for pair in options.items() for word in pair] + ["--arm", CHUNKWISE, "--arm", LAYERWISE]
        fixed = ["dtype=float32", "correctness_prompts=1"]
        fixed += [] if any(word.startswith("chunk_tokens=") for word in words) else ["chunk_tokens=16"]
        settings = [word for text in fixed for word in ("--set", text)]
        return self(*every, *settings, "--out", str(self.folder), *words)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        self._monkeypatch.setattr(sys, "argv", ["ttft", "sweep", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "sweep.csv")

    def statuses(self) -> list[str]:
        return [point["status"] for point in json.loads((self.folder / "sweep.json").read_text())["points"]]

    def run_folder(self, number: int) -> Path:
        return next((self.folder / "points").glob(f"{number:02d}-*"))
