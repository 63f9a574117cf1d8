"""Both sides in turns, into one results folder.

    OUT/run.json, requests.csv, spans.jsonl    the combined run: its arms are ARM@base and ARM@head
    OUT/base/, OUT/head/                       what each side wrote itself, with its logs

Both vLLM stay up; whoever has no turn is stopped (SIGSTOP). Turns alternate: base head, head base, ..., so that a
slow drift of the machine falls on both.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import RunError
from harness.experiment.hooks import Progress
from harness.experiment.lanes.combine import Combiner, arm_of
from harness.experiment.lanes.combined_meta import combine_metas
from harness.experiment.lanes.lane import Job, Lane
from harness.experiment.record import now, recorded
from harness.experiment.settings import Experiment
from harness.results import RunWriter, load

BASE, HEAD = "base", "head"


def measure(
    jobs: Sequence[Job], experiment: Experiment, folder: Path, command: str, progress: Progress, patience_s: float
) -> dict[str, Any]:
    """Measure the two jobs, the base first, and return the combined run's meta data, as in run.json.

    Raises TtftError naming the side; whatever ends it, the rows so far are on disk, run.json says ``partial``,
    both processes have ended and the store is clean. ``patience_s``: how long a side may say nothing.
    """
    writer = RunWriter(folder)
    lanes = [Lane(job, folder / job.name, progress, patience_s) for job in jobs]
    driver = Driver(lanes, experiment, command, progress, writer)
    driver.meta["sides"] = {job.name: dict(job.source) for job in jobs}
    try:
        with recorded(driver.meta, writer, driver.end_all):
            driver.carry_out()
    finally:
        writer.close()
    return driver.meta


class Driver:
    """One measurement under way."""

    def __init__(
        self, lanes: Sequence[Lane], experiment: Experiment, command: str, progress: Progress, writer: RunWriter
    ) -> None:
        self._lanes = lanes
        self._experiment = experiment
        self._command = command
        self._progress = progress
        self._writer = writer
        self.meta: dict[str, Any] = {
            "id": writer.path.name,
            "command": command,
            "question": experiment.question,
            "started": now(),
            "ended": None,
            "status": "partial",
            "sides": {},
            "runs": [],
            "void_runs": [],
            "warnings": [],
        }

    def carry_out(self) -> None:
        """All stages."""
        for lane in self._lanes:
            lane.start(self._settings(), self._command)
        self.meta |= combine_metas({lane.name: load(lane.folder).meta for lane in self._lanes})
        arms = {arm["name"]: arm for arm in self.meta["arms"]}
        combiner = Combiner(self._writer, arms, one_by_one=_alone(self._experiment))
        self._progress.expect(sum(lane.progress.requests for lane in self._lanes))
        while not self._over():
            pair = self._lanes[0].turn.round if self._lanes[0].turn else 0
            for lane in self._lanes if pair % 2 == 0 else reversed(self._lanes):
                self._one(combiner, lane)
        for lane in self._lanes:
            self._progress.stage(f"{lane.name}: stopping vLLM")
            lane.worker.finish()
            self.meta["sides"][lane.name]["idle_cpu_s"] = round(lane.worker.idle_cpu_s, 3)

    def _settings(self) -> dict[str, Any]:
        """What is left at its default may be unknown to another version, so only the rest is said."""
        return self._experiment.model_dump(exclude_defaults=True)

    def _over(self) -> bool:
        """Whether all runs are done. Raises RunError where the sides do not plan the same runs."""
        planned = [(lane.turn.round, lane.turn.arm) if lane.turn else None for lane in self._lanes]
        if len(set(planned)) > 1:
            told = "; ".join(f"{lane.name}: {some}" for lane, some in zip(self._lanes, planned, strict=True))
            raise RunError(f"the two versions plan their runs in different orders ({told}), so they cannot take turns")
        return planned[0] is None

    def _one(self, combiner: Combiner, lane: Lane) -> None:
        """One run of one side, from go to its rows in the combined folder."""
        run, turn = len(self.meta["runs"]), lane.turn
        if turn is None:
            return
        arm = arm_of(turn.arm, lane.name)
        self.meta["runs"].append({"run": run, "round": turn.round, "arm": arm, "started": now(), "done": False})
        self._writer.write_meta(self.meta)
        theirs = lane.run(f"in run {run} ({arm})")
        rows, void = combiner.take(lane.rows, lane.name, theirs, run)
        self.meta["runs"][-1]["done"] = True
        self.meta["void_runs"] += void
        self._writer.write_meta(self.meta)
        for ttft_s in rows:
            self._progress.done(arm, ttft_s)

    def end_all(self) -> None:
        """End both sides, however they stand."""
        with contextlib.ExitStack() as ends:  # each of them, whatever becomes of the others
            for lane in self._lanes:
                ends.callback(self._end, lane)

    def _end(self, lane: Lane) -> None:
        self.meta["warnings"] += lane.end(self._experiment.store, self._experiment.keep_store)


def _alone(experiment: Experiment) -> bool:
    """Whether every request is served alone. Others in the batch change the numerics, and so the tokens."""
    closed = experiment.concurrency == 1 and experiment.arrivals == "closed"
    return closed and not experiment.neighbours and not experiment.probe_every_s
