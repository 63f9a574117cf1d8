"""Stopping a process with its children, so that they take no processor time."""

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from harness.experiment.lanes.process import ProcessGroup

BUSY = "while :; do :; done & while :; do :; done"


@pytest.fixture
def busy() -> Iterator[ProcessGroup]:
    """A shell and its child, both spinning."""
    process = subprocess.Popen(["sh", "-c", BUSY], process_group=0)
    group = ProcessGroup(process.pid)
    yield group
    group.kill()
    process.wait(10)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_a_stopped_group_takes_no_time_at_all_and_goes_on_afterwards(busy: ProcessGroup) -> None:
    wait_until(lambda: busy.cpu_s() > 0.02)
    busy.stop()
    wait_until(lambda: not busy.running())
    used = busy.cpu_s()
    time.sleep(0.1)
    assert busy.cpu_s() == used
    busy.go_on()
    assert busy.running()
    wait_until(lambda: busy.cpu_s() > used)


def test_killing_reaches_a_stopped_child(busy: ProcessGroup) -> None:
    wait_until(lambda: busy.cpu_s() > 0.02)
    busy.stop()
    busy.kill()
    wait_until(lambda: not busy.running())
    assert busy.cpu_s() >= 0


def test_a_group_that_is_gone_can_still_be_told() -> None:
    process = subprocess.Popen(["true"], process_group=0)
    process.wait(10)
    group = ProcessGroup(process.pid)
    for tell in (group.stop, group.go_on, group.kill):
        tell()
    assert (group.running(), group.cpu_s()) == (False, 0.0)
