"""The experiments that can be run by name: each can be planned as it stands."""

import pytest

from harness.config import experiment_folders, merge, read_experiment
from harness.errors import UsageError
from harness.experiment.dotted import experiment_of
from harness.experiment.setting import settle

NAMES = sorted(path.stem for path in experiment_folders()[1].glob("*.toml"))
NEEDS_A_FILE = {"mooncake"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NEEDS_A_FILE])
def test_it_loads_something_with_every_arm(name: str) -> None:
    setting = settle(merge(read_experiment(name)))
    assert all(setting.hits)
    assert len(setting.arms) >= 3
    assert not any("nothing" in note for note in setting.notes)


@pytest.mark.parametrize("name", sorted(NEEDS_A_FILE))
def test_one_that_needs_a_file_says_how_to_give_it(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"needs the option 'path' .*; write mooncake:path=\.\.\., or give --set workload\.path="
    ):
        settle(merge(read_experiment(name)))
    given = experiment_of(read_experiment(name), {"workload.path": "nowhere.jsonl"})
    with pytest.raises(UsageError, match=r"nowhere\.jsonl"):
        settle(given)
