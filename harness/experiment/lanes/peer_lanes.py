"""Which arms share a process: ours all do, each peer has its own."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.core.text import slug
from harness.experiment.hooks import Progress
from harness.experiment.lanes.lane import Job, Lane
from harness.experiment.lanes.process import command_of
from harness.experiment.plan import Setting
from harness.experiment.settings import Experiment

OURS = "ours"
IF_SLOW = "take fewer prompts a run"


@dataclass(frozen=True, slots=True)
class Party:
    """A lane and what it measures. ``peer``: it is no arm of ours, so its failure is a result."""

    lane: Lane
    experiment: Experiment
    peer: bool

    @property
    def arms(self) -> list[str]:
        """By name."""
        return list(self.experiment.arms)


def parties(setting: Setting, folder: Path, progress: Progress, patience_s: float) -> list[Party]:
    """One lane for all arms of ours, where there are any, and one a peer, in the order of the arms."""
    peers = [arm.name for arm in setting.peers]
    ours = [name for name in setting.arms if name not in peers]
    groups = ([(OURS, ours, False)] if ours else []) + [(name, [name], True) for name in peers]
    found = []
    for number, (name, arms, peer) in enumerate(groups):
        called = f"arm {name}" if peer else "process of our own arms"
        job = Job(name, command_of(Path(sys.executable)), dict(os.environ), {}, called=called, if_slow=IF_SLOW)
        lane = Lane(job, folder / "lanes" / f"{number}-{slug(name)[:40]}", progress, patience_s)
        # A peer's proof that its KV is right are tokens equal to ours; its own pass comes on top.
        found.append(Party(lane, setting.experiment.model_copy(update={"arms": arms, "bounds": False}), peer))
    return found
