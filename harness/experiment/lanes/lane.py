"""One side under way: its worker, its rows, and the run that it waits to carry out."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import RunError, StoreError, UsageError
from harness.experiment.hooks import Progress
from harness.experiment.lanes.process import Turn, Worker
from harness.experiment.lanes.side_rows import SideRows
from harness.experiment.span_log import SpanLogReader
from harness.stores import open_store
from harness.stores.layered import in_layout


@dataclass(frozen=True, slots=True)
class Job:
    """One side, ready to be started. ``source``: where its code is from, for run.json. ``home``: the side's own
    site-packages, out of which the measured code must come; None leaves that unchecked. ``ours``: the harness is the side's.
    ``called``: in messages, where "the NAME" is no good. ``if_slow``: what helps one that only is slow."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    source: Mapping[str, Any]
    home: Path | None = None
    ours: bool = True
    called: str = ""
    if_slow: str = "give a longer --timeout"


class SideProgress:
    """Puts the side's name before each stage, and keeps the number of requests."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name = name
        self._progress = progress
        self.requests = 0

    def stage(self, text: str) -> None:
        """Pass it on."""
        self._progress.stage(f"{self._name}: {text}")

    def expect(self, requests: int) -> None:
        """Keep it."""
        self.requests = requests


class Lane:
    """``turn`` is what the side announced last; None when it has nothing left to do."""

    def __init__(self, job: Job, folder: Path, progress: Progress, patience_s: float) -> None:
        """``folder``: of this side, below the combined run's."""
        self.name = job.name
        self.called = job.called or job.name
        self.folder = folder
        self.progress = SideProgress(job.name, progress)
        self.worker = Worker(self.called, folder, self.progress, patience_s, if_slow=job.if_slow)
        self.rows = SideRows(folder)
        self.turn: Turn | None = None
        self._job = job

    def start(self, settings: Mapping[str, Any], command: str) -> None:
        """From nothing to a side that waits for its first turn, stopped. Raises RunError, or UsageError where nothing of
        the package is used."""
        self.worker.start(self._job.command, self._job.environment, settings, command)
        home = self._job.home
        if home is not None and self._job.ours and home not in Path(self.worker.hello["harness"]).parents:
            origin = self.worker.hello["harness"]
            raise RunError(f"the {self.called} runs the harness in {origin}, not the one that was installed for it")
        self.turn = self.worker.turn("getting ready")
        if home is not None and self.turn is not None and not self.turn.loaded:
            package = self._job.source.get("package")
            raise UsageError(
                f"nothing of {package} was loaded for these arms, so both sides would run the same code; "
                f"name an arm (--arm) or a store (--store) of {package}"
            )
        self.worker.keep_still()

    def run(self, doing: str) -> int:
        """Carry out the announced run and return its number in this side's own rows, which are on disk then."""
        if self.turn is None:
            raise RunError(f"the {self.called} has no run left")
        number = self.turn.run
        self.worker.go()
        self.turn = self.worker.turn(doing)
        self.worker.keep_still()
        return number

    def end(self, store_url: str, keep_store: bool) -> list[str]:
        """End the processes however they stand; what could not be cleaned, as sentences."""
        if self.worker.end() or keep_store:
            return []
        return self._delete_leftovers(store_url)

    def _delete_leftovers(self, store_url: str) -> list[str]:
        """What a killed worker saved stands in its span log."""
        log = SpanLogReader(self.folder / "span_log")
        try:
            log.poll()
            with contextlib.closing(open_store(store_url)) as store:
                in_layout(store, log.start).delete(log.saved)
        except (KeyError, ValueError):  # another version's span log
            return [f"the {self.called} was killed, and what it left in the store could not be found; delete the store's folder"]
        except StoreError as error:
            return [f"the {self.called} was killed, and what it left in the store could not be deleted: {error}"]
        return []
