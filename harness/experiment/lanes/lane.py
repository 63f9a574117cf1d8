"""One lane: a vLLM process that takes turns in a comparison, what it measures, and the run that it waits to carry out."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import RunError, StoreError, UsageError
from harness.experiment.hooks import Hooks
from harness.experiment.lanes.combine import LaneRows
from harness.experiment.lanes.process import Turn, Worker
from harness.experiment.session import SPAN_LOG
from harness.experiment.settings import Experiment
from harness.experiment.span_log import SpanLogReader
from harness.stores import open_store
from harness.stores.layered import in_layout


@dataclass(frozen=True, slots=True)
class Program:
    """What a lane runs. ``source``: where its code is from, for run.json. ``home``: the site-packages out of which the
    measured code must come; None leaves that unchecked. ``ours``: the harness itself is measured, too."""

    command: Sequence[str]
    environment: Mapping[str, str]
    source: Mapping[str, Any] = field(default_factory=dict)
    home: Path | None = None
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Words:
    """``called``: the lane, in messages. ``if_slow``: the fix if it is only slow."""

    called: str
    if_slow: str = "give a longer --timeout"


class Lane:
    """``turn`` is the run that it announced last; None if it has nothing left to do. ``peer``: it measures no arm of ours, so
    its failure is a result. ``suffix``: of its arms' names in the whole measurement."""

    def __init__(
        self,
        name: str,
        program: Program,
        experiment: Experiment,
        folder: Path,
        hooks: Hooks,
        patience_s: float,
        *,
        words: Words | None = None,
        peer: bool = False,
        suffix: str = "",
    ) -> None:
        """``folder``: of this lane, below the measurement's. ``patience_s``: how long it may say nothing."""
        words = words or Words(name)
        self.name = name
        self.called = words.called
        self.experiment = experiment
        self.folder = folder
        self.peer = peer
        self.suffix = suffix
        self.requests = 0
        self.turn: Turn | None = None
        self.worker = Worker(words.called, folder, self, patience_s, if_slow=words.if_slow)
        self.rows = LaneRows(folder)
        self._program = program
        self._hooks = hooks

    @property
    def arms(self) -> list[str]:
        """What it measures, by name."""
        return list(self.experiment.arms)

    def stage(self, text: str) -> None:
        """Pass it on under the lane's name."""
        self._hooks.stage(f"{self.name}: {text}")

    def expect(self, requests: int) -> None:
        """Keep it: the driver announces the sum of all lanes."""
        self.requests = requests

    def start(self, command: str) -> None:
        """From nothing to a lane that waits for its first turn, stopped. Raises RunError, or UsageError if nothing of
        the package is used. ``command``: the user's."""
        program = self._program
        # What is left at its default may be unknown to another version, so only the rest is said.
        settings = self.experiment.model_dump(exclude_defaults=True)
        self.worker.start(program.command, program.environment, settings, command)
        origin = self.worker.hello["harness"]
        if program.home is not None and program.ours and program.home not in Path(origin).parents:
            raise RunError(f"the {self.called} runs the harness in {origin}, not the one that was installed for it")
        self.turn = self.worker.turn("getting ready")
        if program.home is not None and self.turn is not None and not self.turn.loaded:
            package = program.source.get("package")
            raise UsageError(
                f"nothing of {package} was loaded for these arms, so both lanes would run the same code; "
                f"name an arm (--arm) or a store (--store) of {package}"
            )
        self.worker.keep_still()

    def run(self, doing: str) -> int:
        """Carry out the announced run and return its number in this lane's own rows, which are on disk then."""
        if self.turn is None:
            raise RunError(f"the {self.called} has no run left")
        number = self.turn.run
        self.worker.go()
        self.turn = self.worker.turn(doing)
        self.worker.keep_still()
        return number

    def finish(self) -> None:
        """All is measured: stop vLLM and clean the store."""
        self.stage("stopping vLLM")
        self.worker.finish()

    def end(self) -> list[str]:
        """End the processes however they stand; what could not be cleaned, as sentences for run.json."""
        if self.worker.end() or self.experiment.keep_store:
            return []
        log = SpanLogReader(self.folder / SPAN_LOG)  # what a killed worker saved stands there
        left = f"the {self.called} was killed, and what it left in the store could not be"
        try:
            log.poll()
            with contextlib.closing(open_store(self.experiment.store)) as store:
                in_layout(store, log.start).delete(log.saved)
        except (KeyError, ValueError, RunError):  # another version's
            return [f"{left} found; delete the store's folder"]
        except StoreError as error:
            return [f"{left} deleted: {error}"]
        return []
