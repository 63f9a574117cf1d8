"""``sweep.json``: what was asked for and what is done. Replaced as a whole, so that a crash leaves the old one or the new."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import ResultsError, SchemaMismatch, TtftError, UsageError
from harness.core.replacing import replace_text
from harness.core.text import redact, whole
from harness.experiment.settings import Experiment, merge
from harness.experiment.sweep.axes import parse_axes
from harness.experiment.sweep.grid import Grid, grid_of

SCHEMA = "1.0"
NAME = "sweep.json"
FINISHED = ("complete", "void")
"""States of a point of which nothing is left to measure. The others: waiting, measuring, failed."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a point is. ``wall_s`` is what it took, ``starting_s`` the part in which vLLM started."""

    status: str = "waiting"
    reason: str = ""
    wall_s: float | None = None
    starting_s: float | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to measure."""
        return self.status in FINISHED


class State:
    """A sweep's folder and its sweep.json."""

    def __init__(self, folder: Path, experiment: str, command: str, grid: Grid, progress: Mapping[int, Progress]) -> None:
        """``experiment``: its name; ``progress`` by the points' numbers."""
        self.folder = folder
        self.experiment = experiment
        self.command = command
        self.grid = grid
        self._progress = dict(progress)

    @classmethod
    def new(cls, folder: Path, experiment: str, command: str, grid: Grid) -> "State":
        """Of a sweep that begins; nothing is written yet."""
        return cls(folder, experiment, command, grid, {})

    def of(self, number: int) -> Progress:
        """A point's progress."""
        return self._progress.get(number, Progress())

    def run_folder(self, number: int) -> Path:
        """Where a point's run is."""
        return self.folder / "points" / self.grid.points[number - 1].folder

    def note(self, number: int, progress: Progress) -> None:
        """Keep how far a point is, at once."""
        self._progress[number] = progress
        self.write()

    def write(self) -> None:
        """Replace sweep.json. Raises ResultsError if it cannot be written."""
        config = self.grid.base.model_dump() | {"store": redact(self.grid.base.store)}
        points = []
        for point in self.grid.points:
            progress = self.of(point.number)
            points.append(
                {"point": point.number, "folder": f"points/{point.folder}", "values": dict(point.values)}
                | {"status": progress.status, "reason": progress.reason}
                | {"wall_s": progress.wall_s, "starting_s": progress.starting_s}
            )
        text = {"schema": SCHEMA, "experiment": self.experiment, "command": self.command, "config": config,
                "vary": [axis.text for axis in self.grid.axes], "points": points}  # fmt: skip
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_text(self.folder / NAME, json.dumps(text, indent=2) + "\n")
        except OSError as error:
            raise ResultsError(f"the sweep in {self.folder} cannot be written: {error.strerror}; give another --out") from error

    def count(self, *statuses: str) -> int:
        """Points in one of these states."""
        return sum(self.of(point.number).status in statuses for point in self.grid.points)


def read_state(folder: Path, store: str | None = None) -> State:
    """A sweep's folder read back. ``store``: its URL again, if the one in sweep.json lacks a password.

    Raises ResultsError if it is none or damaged, SchemaMismatch for another version's, UsageError for another store.
    """
    raw = _raw(folder)
    try:
        config = {name: value for name, value in raw["config"].items() if name in Experiment.model_fields}
        if store is not None and redact(store) != config["store"]:
            raise UsageError(f"{folder} cannot be resumed: its store is {config['store']}, here it is {redact(store)}")
        grid = grid_of(merge(config, {"store": store}), parse_axes([str(text) for text in raw["vary"]]))
        progress = {int(one["point"]): _progress(one) for one in raw["points"]}
        same = [dict(one["values"]) for one in raw["points"]] == [dict(point.values) for point in grid.points]
        found = State(folder, str(raw["experiment"]), str(raw["command"]), grid, progress)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResultsError(
            f"{folder / NAME} is damaged ({type(error).__name__}: {error}); restore it or begin a new sweep"
        ) from error
    except TtftError as error:
        raise type(error)(f"{folder / NAME} cannot be resumed: {error}") from error
    if not same:
        raise ResultsError(f"{folder / NAME} is damaged: its points are not those of its axes; restore it or begin a new sweep")
    return found


def _progress(one: Mapping[str, Any]) -> Progress:
    return Progress(str(one["status"]), str(one["reason"]), one.get("wall_s"), one.get("starting_s"))


def _raw(folder: Path) -> dict[str, Any]:
    try:
        raw = whole(json.loads((folder / NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ResultsError(f"{folder} has no {NAME}, so it is not a sweep's folder; give the one that ttft sweep wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{folder / NAME} cannot be read: {error}; restore it or begin a new sweep") from error
    if not isinstance(raw, dict):
        raise ResultsError(f"{folder / NAME} cannot be read: it holds no JSON object")
    if str(raw.get("schema", "")).partition(".")[0] != SCHEMA.partition(".")[0]:
        raise SchemaMismatch(
            f"{folder / NAME} is of schema {raw.get('schema')}, this is {SCHEMA}; go on with that version of ttft"
        )
    return raw


def left_of(state: State) -> Sequence[int]:
    """Numbers of the points that are not finished."""
    return [point.number for point in state.grid.points if not state.of(point.number).finished]
