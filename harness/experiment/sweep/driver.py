"""Measure the points that are left, start by start. A point that fails is noted and the others go on."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from harness.core.errors import ResultsError, TtftError
from harness.experiment.hooks import Hooks
from harness.experiment.record import NOTHING, Earlier, earlier_of
from harness.experiment.sweep.planning import Plan, Planned, setting_of
from harness.experiment.sweep.sharing import SharedVllm, measure_sharing, prove_sharing
from harness.experiment.sweep.state import Progress, State
from harness.results import load
from harness.stores import Store, open_store

Watched = Callable[[str], AbstractContextManager[Hooks]]
"""Opens a progress bar under a title."""


def check_earlier(plan: Plan, state: State) -> None:
    """Raise UsageError if what the folder holds cannot be resumed: another machine, other versions, other data."""
    for planned in plan.points:
        if state.of(planned.point.number).status != "waiting":
            _earlier(planned, state)


def _earlier(planned: Planned, state: State) -> Earlier:
    folder = state.run_folder(planned.point.number)
    if not (folder / "run.json").exists():
        return NOTHING
    return earlier_of(load(folder, spans=False), setting_of(planned))


def measure_left(plan: Plan, state: State, command: str, watched: Watched) -> None:
    """Measure every point that is not finished, and note each in ``state`` as soon as it is.

    Raises ResultsError if nothing can be written any more, and KeyboardInterrupt; what was measured is kept.
    """
    state.write()
    for start in plan.starts:
        left = [planned for planned in start if not state.of(planned.point.number).finished]
        if not left:
            continue
        try:
            with open_store(left[0].point.experiment.store) as store:
                asyncio.run(_Start(left, state, command, watched, len(plan.points)).measure(store))
        except ResultsError:
            raise
        except TtftError as error:  # the store: none of these can be measured
            for planned in left:
                if not state.of(planned.point.number).finished:
                    state.note(planned.point.number, Progress("failed", str(error)))


class _Start:
    """The points of one start of vLLM."""

    def __init__(self, left: Sequence[Planned], state: State, command: str, watched: Watched, total: int) -> None:
        self._left = left
        self._state = state
        self._command = command
        self._watched = watched
        self._total = total
        self._proofs: dict[int, Mapping[str, Any]] = {}

    async def measure(self, store: Store) -> None:
        host = SharedVllm(self._state.folder / "starts" / str(self._left[0].start), store)
        try:
            await self._prove(host)
            for planned in self._left:
                await self._point(planned, host)
        finally:
            host.close()

    async def _prove(self, host: SharedVllm) -> None:
        """Where the timed runs are not in float32, all correctness passes come first, in a start of their own.

        A point whose pass fails here goes through it again by itself, so that its run.json says what failed.
        """
        for planned in self._left if len(self._left) > 1 else ():
            setting = setting_of(planned)
            if not setting.proves_apart:
                return
            try:
                proof = await prove_sharing(setting, f"{planned.point.folder}-proof-{time.time_ns():x}", host)
            except TtftError:
                continue
            if proof is not None:
                self._proofs[planned.point.number] = proof

    async def _point(self, planned: Planned, host: SharedVllm) -> None:
        number = planned.point.number
        begun, before = time.monotonic(), host.starting_s
        with self._watched(f"point {number} of {self._total}: {planned.point.text}") as progress:
            try:
                earlier = _earlier(planned, self._state)
                self._state.note(number, Progress("measuring"))
                meta = await measure_sharing(
                    setting_of(planned), self._state.run_folder(number), self._command, progress, host, earlier,
                    self._proofs.get(number),
                )  # fmt: skip
            except ResultsError:  # a full disk: no other point would fare better
                raise
            except TtftError as error:
                self._state.note(number, Progress("failed", str(error)))
                progress.stage(f"this point failed: {error}")
                return
        reason = str(meta["void_runs"][0]["reason"]) if meta["void_runs"] else ""
        wall_s, starting_s = time.monotonic() - begun, host.starting_s - before
        whole = not earlier.finished  # the time of a point that was there in part says nothing about the others
        times = (round(wall_s, 3), round(starting_s, 3)) if whole else (None, None)
        self._state.note(number, Progress(str(meta["status"]), reason, *times))
