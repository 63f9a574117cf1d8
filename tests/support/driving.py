"""Two scripted workers in lanes of the real driver."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from told import Told

from harness.experiment.lanes.ab import BASE, HEAD, measure
from harness.experiment.lanes.lane import Program
from harness.experiment.settings import Experiment
from harness.results import Measurement, load

SCRIPT = Path(__file__).parent / "scripted_worker.py"
ARM = "layerwise:depth=4"


def program(name: str, **script: Any) -> Program:
    """One that follows a script (scripted_worker.DEFAULTS). ``home`` and ``ours`` are the program's own."""
    own = {key: script.pop(key) for key in ("home", "ours") if key in script}
    command = [sys.executable, "-S", str(SCRIPT), json.dumps(script)]
    return Program(command, dict(os.environ), {"from": name, "package": "some-engine", "digest": name}, **own)


@dataclass
class Bench:
    """A place for one measurement."""

    home: Path
    told: Told = field(default_factory=Told)

    @property
    def folder(self) -> Path:
        return self.home / "run"

    @property
    def store(self) -> str:
        return f"file://{self.home / 'kv'}"

    def measure(self, base: Program, head: Program, patience_s: float = 20.0, **settings: Any) -> Measurement:
        wanted = {"arms": [ARM], "pairs": 2, "store": self.store, **settings}
        measure({BASE: base, HEAD: head}, Experiment(**wanted), self.folder, "ttft ab", self.told, patience_s)
        return self.run()

    def run(self) -> Measurement:
        return load(self.folder)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


__all__ = ["ARM", "BASE", "HEAD", "Bench", "bench", "program"]
