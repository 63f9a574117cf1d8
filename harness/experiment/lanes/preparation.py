"""From a side as the user named it to one that can be started."""

import os
from pathlib import Path

from harness.experiment.lanes.environment import build, worker_environment
from harness.experiment.lanes.lane import Job
from harness.experiment.lanes.process import command_of
from harness.experiment.lanes.sides import Side, changed, snapshot


def prepare(side: Side, workplace: Path, log: Path) -> Job:
    """Copy the side's files below ``workplace`` and install them there, which has to stay until the job is done.

    Raises UsageError or SetupError, naming the side.
    """
    dirty = changed(side)
    tree = workplace / side.name / "tree"
    digest = snapshot(side, tree)
    log.parent.mkdir(parents=True, exist_ok=True)
    installed = build(side, tree, workplace / side.name / "env", log)
    source = {
        "from": side.what,
        "commit": side.commit or None,
        "changed": dirty,
        "digest": digest,
        "package": installed.package,
        "version": installed.version,
    }
    environment = worker_environment(os.environ)
    return Job(side.name, command_of(installed.python), environment, source, installed.home, installed.ours)
