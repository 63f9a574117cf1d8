"""All lanes in turns, into one results folder.

    OUT/run.json, requests.csv, spans.jsonl    the whole measurement
    the folders of the lanes below it          what each process wrote itself, with its logs

Every vLLM stays up; a lane without a turn is stopped (SIGSTOP). Neighbouring rounds go through the lanes in opposite
directions, so that a slow drift of the machine falls on all. A peer that fails is noted and given up; the others go on.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.core.errors import RunError, TtftError
from harness.experiment.hooks import Hooks
from harness.experiment.lanes.combine import Combiner
from harness.experiment.lanes.lane import Lane
from harness.experiment.record import now, recorded
from harness.results import RunWriter, load


class Driver:
    """One measurement under way. What two versions and what peers do in their own way are the methods that versions.py and
    peers.py override: ``found``, ``ready``, ``in_turns`` and ``ended``."""

    def __init__(
        self, lanes: Sequence[Lane], meta: Mapping[str, Any], command: str, hooks: Hooks, writer: RunWriter, one_by_one: bool
    ) -> None:
        """``meta``: run.json as far as it is known. ``one_by_one``: no two requests share a batch."""
        self.lanes = list(lanes)
        self.left = list(lanes)
        self.meta = dict(meta)
        self._command = command
        self._hooks = hooks
        self._writer = writer
        self._one_by_one = one_by_one
        self._ended: set[str] = set()

    def measure(self) -> dict[str, Any]:
        """Measure, and return run.json. Raises TtftError; whatever ends it, the rows so far are on disk, run.json says
        ``partial``, all processes have ended and the store is clean."""
        with contextlib.closing(self._writer), recorded(self.meta, self._writer, self._end_all):
            self._carry_out()
        return self.meta

    def found(self, lane: Lane, meta: Mapping[str, Any]) -> None:
        """A lane waits for its first turn; ``meta`` is its own run.json."""

    def ready(self) -> None:
        """All lanes wait for their first turns."""

    def in_turns(self, number: int) -> Iterator[Lane]:
        """The lanes in the order of the runs of a round, each as often as it has a run in it."""
        for lane in self.order(number):
            while lane in self.left and lane.turn is not None and lane.turn.round == number:
                yield lane

    def ended(self, lane: Lane) -> None:
        """A lane's processes have ended."""

    def order(self, number: int) -> list[Lane]:
        """The lanes in the direction of this round."""
        return self.left[:: 1 if number % 2 == 0 else -1]

    def _carry_out(self) -> None:
        for lane in self.lanes:
            self._guarded(lane, self._start)
        self.ready()
        self._expect_some()
        self._hooks.expect(sum(lane.requests for lane in self.left))
        combiner = Combiner(self._writer, {arm["name"]: arm for arm in self.meta["arms"]}, self._one_by_one)
        while waiting := [lane.turn.round for lane in self.left if lane.turn is not None]:
            number = min(waiting)
            for lane in self.in_turns(number):
                self._guarded(lane, lambda lane: self._one(combiner, lane))
            self._expect_some()
            if reason := self._hooks.after_round(number + 1):
                self.meta["stopped"] = {"rounds": number + 1, "reason": reason}
                return
        for lane in list(self.left):
            self._guarded(lane, Lane.finish)

    def _guarded(self, lane: Lane, step: Callable[[Lane], None]) -> None:
        """Do a step of a lane; a peer that fails is ended and given up.

        Raises TtftError if one of ours fails, or a peer that the measurement cannot do without.
        """
        try:
            step(lane)
        except TtftError as error:
            if not lane.peer or self._hooks.needs_all:
                raise
            self.left.remove(lane)
            self.meta["failed_arms"] += [{"arm": arm, "reason": str(error)} for arm in lane.arms]
            self._hooks.stage(f"note: {error}; the others go on without it")
            self._end(lane)
            self._writer.write_meta(self.meta)

    def _expect_some(self) -> None:
        """Raises RunError if every lane was a peer's and none is left."""
        if not self.left:
            raise RunError(f"no arm is left to measure: {self.meta['failed_arms'][0]['reason']}")

    def _start(self, lane: Lane) -> None:
        lane.start(self._command)
        self.found(lane, load(lane.folder, spans=False).meta)
        self._writer.write_meta(self.meta)

    def _one(self, combiner: Combiner, lane: Lane) -> None:
        """One run, from go to its rows in the whole measurement."""
        run, turn = len(self.meta["runs"]), lane.turn
        if turn is None:
            return
        arm = turn.arm + lane.suffix
        entry = {"run": run, "round": turn.round, "arm": arm, "started": now(), "done": False}
        self.meta["runs"].append(entry)
        self._writer.write_meta(self.meta)
        theirs = lane.run(f"in run {run} ({arm})")
        ttfts, void = combiner.take(lane.rows, lane.called, theirs, run, lane.suffix)
        entry["done"] = True
        self.meta["void_runs"] += void
        self._writer.write_meta(self.meta)
        for ttft_s in ttfts:
            self._hooks.done(arm, ttft_s)
        if lane.peer and not any(ttft_s is not None for ttft_s in ttfts):  # its vLLM is gone: all others would be the same
            errors = load(lane.folder, spans=False).requests["error"].dropna()
            raise RunError(f"the arm {arm} failed every request of run {run}: {errors.iloc[-1] if len(errors) else 'no token'}")

    def _end_all(self) -> None:
        """End every process, however it stands, and note what the stopped ones have used while others were measured."""
        with contextlib.ExitStack() as ends:  # each of them, whatever becomes of the others
            for lane in self.lanes:
                ends.callback(self._end, lane)
        self.meta["idle_cpu_s"] = {lane.name: round(lane.worker.idle_cpu_s, 3) for lane in self.lanes}

    def _end(self, lane: Lane) -> None:
        """Once: the number of a process group that is gone may be another's later on."""
        if lane.name in self._ended:
            return
        self._ended.add(lane.name)
        try:
            self.meta["warnings"] += lane.end()
        finally:
            self.ended(lane)
