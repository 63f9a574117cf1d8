"""Scripted workers in the place of ours and of each peer's, under the real driver."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import scripted_worker
from told import Told

from harness.experiment.at_peer import place_of
from harness.experiment.hooks import Watch
from harness.experiment.lanes import peers
from harness.experiment.lanes.lane import Program
from harness.experiment.plan import Setting, settle
from harness.experiment.settings import merge
from harness.results import Measurement, load

SCRIPT = Path(scripted_worker.__file__)
MODEL = "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256"
SHORT = "shared_prefix:groups=2,prefix=32,suffix=5,prompts=2,output=3"
OURS, FIRST, SECOND = "chunkwise:pool=0", "example", "connector:Other"


@dataclass
class Lineup:
    """One measurement; ``scripts`` by lane (scripted_worker.DEFAULTS), ``OURS`` under the name ``ours``."""

    home: Path
    scripts: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: Told = field(default_factory=Told)

    @property
    def folder(self) -> Path:
        return self.home / "run"

    def program(self, lane: str) -> Program:
        """In the place of ``program_of``."""
        return Program([sys.executable, "-S", str(SCRIPT), json.dumps(self.scripts.get(lane, {}))], dict(os.environ))

    def setting(self, **changes: Any) -> Setting:
        small = {"model": MODEL, "dtype": "float32", "workload": SHORT, "chunk_tokens": 16, "bounds": False, "pairs": 2}
        return settle(merge(small, {"arms": [OURS, FIRST, SECOND], "store": f"file://{self.home / 'kv'}", **changes}))

    def measure(self, watch: Watch | None = None, patience_s: float = 20.0, **changes: Any) -> Measurement:
        """Carry it out; every peer has left something in its folder."""
        setting = self.setting(**changes)
        for place in self.places(setting):
            place.mkdir(parents=True)
            (place / "stored.pt").write_bytes(b"k")
        self.told.watch = watch
        peers.measure(setting, self.folder, "ttft compare", self.told, patience_s)
        return self.run()

    def places(self, setting: Setting) -> list[Path]:
        """The peers' folders."""
        found = peers.lanes_of(setting, self.folder, self.told, 1.0)
        return [place_of(setting, lane.folder).folder for lane in found if lane.peer]

    def run(self) -> Measurement:
        return load(self.folder)

    def left(self) -> list[Path]:
        """Whatever lies in the store, empty folders too."""
        return list((self.home / "kv").rglob("*"))


def workers() -> set[str]:
    """Scripted workers of this process that still run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            command = path.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z" and "scripted_worker" in command:
            found.add(path.parent.name)
    return found


@pytest.fixture
def lineup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lineup:
    made = Lineup(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(peers, "program_of", made.program)
    return made


__all__ = ["FIRST", "OURS", "SECOND", "Lineup", "lineup", "workers"]
