"""A sweep's files on a disk that is full, or a machine that stops, at any call: what was noted is there, whole."""

from pathlib import Path

import pytest
from failing_disk import FailingDisk, Stopped

from harness.core.errors import ResultsError
from harness.experiment.settings import merge
from harness.experiment.sweep.axes import parse_axes
from harness.experiment.sweep.grid import grid_of
from harness.experiment.sweep.state import Progress, State, read_state

STEPS = [(number, status) for number in (1, 2, 3) for status in ("measuring", "complete")]
CALLS = 3 * len(STEPS)
"""A note opens, writes, syncs and replaces: more calls than these faults."""


def note_all(state: State, noted: list[tuple[int, str]]) -> None:
    for number, status in STEPS:
        if state.of(number).finished:
            continue
        state.note(number, Progress(status, f"the {number}th"))
        noted.append((number, status))


@pytest.mark.parametrize("stops", [False, True])
def test_a_sweep_survives_a_fault_at_every_call(tmp_path: Path, stops: bool) -> None:
    grid = grid_of(merge({"store": "mem://kv"}), parse_axes(["concurrency=1,2,4"]))
    for at in range(CALLS):
        folder = tmp_path / str(at)
        State.new(folder, "default", "ttft sweep", grid).write()
        noted: list[tuple[int, str]] = []
        with pytest.raises((Stopped, ResultsError)), FailingDisk(folder, at, stops, 0.5).mounted():
            note_all(read_state(folder), noted)
        found = read_state(folder)
        last = dict(noted)
        steps = [found.of(number).status for number in (1, 2, 3)]
        told = [last.get(number, "waiting") for number in (1, 2, 3)]
        ahead = dict([*noted, STEPS[len(noted)]])  # it may be there though the call did not come back
        assert steps in (told, [ahead.get(number, "waiting") for number in (1, 2, 3)])
        note_all(found, [])
        assert read_state(folder).count("complete") == 3
