"""Peers beside ours: all our arms in one lane, each peer in a lane of its own, below OUT/lanes/N-NAME/."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.core.text import slug
from harness.experiment.at_peer import place_of
from harness.experiment.hooks import Hooks
from harness.experiment.lanes.driver import Driver
from harness.experiment.lanes.lane import Lane, Program, Words
from harness.experiment.lanes.process import command_of
from harness.experiment.plan import Setting
from harness.experiment.record import declared
from harness.results import RunWriter

OURS = "ours"
IF_SLOW = "take fewer prompts per run"
PATIENCE_S = 900.0
"""A process that says nothing for so long has failed: longer than any run of a usual workload."""


def measure(setting: Setting, folder: Path, command: str, hooks: Hooks, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Measure all arms in turns and return the measurement's meta data, as in run.json.

    The hooks may end it between two rounds. Raises TtftError if our own arms fail, or if any fails and the hooks need all;
    else a peer's failure stands in ``failed_arms``. Whatever ends it, the rows so far are on disk, all processes have ended
    and the disk is clean.
    """
    writer = RunWriter(folder)
    return PeersDriver(setting, lanes_of(setting, folder, hooks, patience_s), command, hooks, writer).measure()


def lanes_of(setting: Setting, folder: Path, hooks: Hooks, patience_s: float) -> list[Lane]:
    """One lane for all arms of ours, if there are any, and one per peer, in the order of the arms."""
    peers = [arm.name for arm in setting.peers]
    ours = [name for name in setting.arms if name not in peers]
    groups = ([(OURS, ours, False)] if ours else []) + [(name, [name], True) for name in peers]
    lanes = []
    for number, (name, arms, peer) in enumerate(groups):
        words = Words(f"arm {name}" if peer else "process of our own arms", IF_SLOW)
        # A peer's proof that its KV is right are tokens equal to ours; its own pass comes on top.
        experiment = setting.experiment.model_copy(update={"arms": arms, "bounds": False})
        place = folder / "lanes" / f"{number}-{slug(name)[:40]}"
        lanes.append(Lane(name, program_of(name), experiment, place, hooks, patience_s, words=words, peer=peer))
    return lanes


def program_of(lane: str) -> Program:
    """Every lane runs this code, in this environment."""
    return Program(command_of(Path(sys.executable)), dict(os.environ))


class PeersDriver(Driver):
    """Ours and peers in turns."""

    def __init__(self, setting: Setting, lanes: list[Lane], command: str, hooks: Hooks, writer: RunWriter) -> None:
        meta = {**declared(setting, writer.path.name, command), **hooks.declared, "failed_arms": [], "peers": {}}
        super().__init__(lanes, meta, command, hooks, writer, setting.experiment.one_by_one)
        self._setting = setting

    def found(self, lane: Lane, meta: Mapping[str, Any]) -> None:
        """Ours prove the KV for all; without ours, each peer proves its own."""
        if not lane.peer:
            told = ("geometry", "direct_reads", "binding", "correctness")
            self.meta |= {name: meta[name] for name in told if name in meta}
            return
        proof = meta.get("correctness", {"status": "skipped"})
        self.meta["peers"][lane.name] = {**meta.get("peer", {}), "correctness": proof}
        if all(other.peer for other in self.lanes):
            self.meta["correctness"] = {"status": _together(self.meta["peers"].values())}
        if "torch_threads" not in self.meta["binding"]:
            self.meta["binding"] |= meta.get("binding", {})

    def ended(self, lane: Lane) -> None:
        """What a peer stored is of no use to anybody else."""
        if lane.peer:
            folder = place_of(self._setting, lane.folder).folder
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # not the last peer, or another measurement's
                folder.parent.rmdir()


def _together(peers: Iterable[Mapping[str, Any]]) -> str:
    """Passed only if each has."""
    return "passed" if all(peer["correctness"]["status"] == "passed" for peer in peers) else "skipped"
