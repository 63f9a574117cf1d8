"""A measurement that is killed again and again (SIGKILL, in its own process) and resumed has the rows of an undisturbed one."""

import os
import random
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_engine import FakeVllm, Lab, lab

from harness.experiment.record import NOTHING, earlier_of
from harness.results import RunWriter

__all__ = ["lab"]

KILLS = 10
STEPS = ((RunWriter, "append"), (RunWriter, "append_spans"), (RunWriter, "write_meta"), (os, "fsync"), (Path, "replace"))
"""What a measurement does to its folder."""
SAME = [
    "round",
    "position",
    "arm",
    "prompt",
    "prompt_tokens",
    "expected_hit_tokens",
    "hit_tokens",
    "output_tokens",
    "output_digest",
]


def killed_at(step: int, owner: Any, name: str, count: list[int]) -> Callable[..., Any]:
    """The real call, but for the ``step``th of all that are counted: the process ends in front of it, or behind it."""
    real = getattr(owner, name)

    def call(*args: Any, **more: Any) -> Any:
        count[0] += 1
        if count[0] == step and step % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **more)
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def resumed(here: Lab) -> None:
    """What ``ttft compare``, or ``--resume`` after it, does."""
    begun = (here.folder / "run.json").exists()
    here.measure(earlier_of(here.run(), here.setting()) if begun else NOTHING)


def measure_until_killed(here: Lab, step: int) -> bool:
    """In a forked process; whether it was killed before the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, which here are none of the child's
        child = os.fork()
    if child == 0:
        count = [0]
        for owner, name in STEPS:
            setattr(owner, name, killed_at(step, owner, name, count))
        try:
            resumed(here)
        except BaseException:  # noqa: BLE001  whatever it is, this process must not go on as a second pytest
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "a resumed measurement failed"
    return os.WIFSIGNALED(status)


def rows(here: Lab) -> pd.DataFrame:
    return here.run().counted[SAME].sort_values(["round", "arm", "position"]).reset_index(drop=True)


@pytest.mark.parametrize("seed", [17, 18])
def test_a_measurement_that_is_killed_ten_times_has_the_rows_of_one_that_is_not(lab: Lab, tmp_path: Path, seed: int) -> None:
    (tmp_path / "undisturbed").mkdir()
    whole = Lab(tmp_path / "undisturbed", FakeVllm())
    whole.measure()
    random_steps = random.Random(seed)
    kills = 0
    while kills < KILLS:
        if not measure_until_killed(lab, random_steps.randrange(2, 60)):
            break
        kills += 1
    assert kills == KILLS, "it was over too early: the kills showed nothing"
    resumed(lab)
    assert lab.last["status"] == "complete"
    pd.testing.assert_frame_equal(rows(lab), rows(whole))
    assert lab.left() == set(), "what killed processes left in the store is gone"
