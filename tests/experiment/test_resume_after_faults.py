"""A whole experiment on a disk that is full, or a machine that stops, at any write, and what --resume makes of it."""

from pathlib import Path

import pytest
from failing_disk import FailingDisk, Stopped
from fake_engine import Lab, lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import TtftError
from harness.experiment.record import NOTHING, earlier_of

__all__ = ["lab"]

ROUNDS, REQUESTS = 3, 44


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(3, 150), st.booleans(), st.sampled_from([0.0, 0.5])), min_size=1, max_size=3))
def test_a_resumed_experiment_has_every_run_once(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, faults: list[tuple[int, bool, float]]
) -> None:
    here = Lab(tmp_path_factory.mktemp("home"), lab.vllm)
    for at, stops, part in faults:
        earlier = earlier_of(here.run(), here.setting()) if (here.folder / "run.json").exists() else NOTHING
        try:
            with FailingDisk(here.folder, at, stops, part).mounted():
                here.measure(earlier)
        except Stopped:
            pass
        except TtftError as error:
            assert "No space left" in str(error)
    run = here.measure(earlier_of(here.run(), here.setting()) if (here.folder / "run.json").exists() else NOTHING)
    assert run.meta["status"] == "complete" and len(run.counted) == REQUESTS
    once = run.counted[["run", "round", "arm"]].drop_duplicates()
    assert len(once) == len(once[["round", "arm"]].drop_duplicates()) == REQUESTS // 4
    assert set(once["round"]) == set(range(ROUNDS))
    done = {entry["run"] for entry in run.meta["runs"] if entry["done"]}
    assert set(once["run"]) == done


def test_the_folder_that_is_full_at_once_is_one_sentence(lab: Lab, tmp_path: Path) -> None:
    with FailingDisk(lab.folder, 0, stops=False).mounted(), pytest.raises(TtftError, match=r"cannot be written: No space left"):
        lab.measure()
