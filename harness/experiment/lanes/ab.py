"""Two versions of a package in turns, each in a lane, and the newer one judged against the older.

The lanes' own folders are OUT/base and OUT/head; in the whole measurement their arms are called ARM@base and ARM@head.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import RunError
from harness.experiment.hooks import Hooks
from harness.experiment.lanes.combine import arm_of, combine_metas
from harness.experiment.lanes.driver import Driver
from harness.experiment.lanes.lane import Lane, Program
from harness.experiment.record import now
from harness.experiment.settings import Experiment
from harness.gate import Outcome, Verdict, judge_run
from harness.gate.calibration import Calibration
from harness.results import Measurement, RunWriter

BASE, HEAD = "base", "head"
GRAVEST_FIRST = (Outcome.FAIL, Outcome.REFUSED, Outcome.INCONCLUSIVE, Outcome.PASS)


def measure(
    programs: Mapping[str, Program], experiment: Experiment, folder: Path, command: str, hooks: Hooks, patience_s: float
) -> dict[str, Any]:
    """Measure both programs, the base first, and return the measurement's meta data, as in run.json.

    Raises TtftError naming the lane; whatever ends it, the rows so far are on disk, run.json says ``partial``,
    both processes have ended and the store is clean. ``patience_s``: how long a lane may say nothing.
    """
    lanes = [
        Lane(name, program, experiment, folder / name, hooks, patience_s, suffix=arm_of("", name))
        for name, program in programs.items()
    ]
    meta: dict[str, Any] = {
        "id": folder.name,
        "command": command,
        "question": experiment.question,
        "started": now(),
        "ended": None,
        "status": "partial",
        "lanes": {name: dict(program.source) for name, program in programs.items()},
        "runs": [],
        "void_runs": [],
        "warnings": [],
    }
    return VersionsDriver(lanes, meta, command, hooks, RunWriter(folder), experiment.one_by_one).measure()


class VersionsDriver(Driver):
    """Two lanes that plan the same runs, so that the two runs of an arm in a round follow one another."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._metas: dict[str, Mapping[str, Any]] = {}

    def found(self, lane: Lane, meta: Mapping[str, Any]) -> None:
        """Keep it until both are there."""
        self._metas[lane.name] = meta

    def ready(self) -> None:
        """Raises RunError if the two versions do not measure the same."""
        self.meta |= combine_metas(self._metas)

    def in_turns(self, number: int) -> Iterator[Lane]:
        """One run of each, as long as the round lasts. Raises RunError if the lanes do not plan the same runs."""
        while self._round() == number:
            yield from self.order(number)

    def _round(self) -> int | None:
        """Of the runs that both wait for."""
        planned = [(lane.turn.round, lane.turn.arm) if lane.turn else None for lane in self.lanes]
        if len(set(planned)) > 1:
            told = "; ".join(f"{lane.name}: {some}" for lane, some in zip(self.lanes, planned, strict=True))
            raise RunError(f"the two versions plan their runs in different orders ({told}), so they cannot take turns")
        return planned[0][0] if planned[0] is not None else None


def judge(
    measurement: Measurement,
    arms: Sequence[str],
    margins: Mapping[str, float],
    alpha: float,
    calibration: Calibration | None = None,
    force: bool = False,
) -> list[Verdict]:
    """Head against base for each arm. Each gets its share of ``alpha`` (Bonferroni): every arm is another chance
    of a false alarm. Raises UsageError as the gate does."""
    share = alpha / len(arms)
    return [judge_run(measurement, arm_of(arm, HEAD), arm_of(arm, BASE), margins, share, calibration, force) for arm in arms]


def gravest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that decides: a regression in one arm is one of the whole."""
    return min(verdicts, key=lambda verdict: GRAVEST_FIRST.index(verdict.outcome))
