"""The experiments that can be run by name: each can be planned as it stands."""

import re
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.experiment.dotted import experiment_of
from harness.experiment.plan import settle
from harness.experiment.settings import experiment_folders, merge, read_experiment

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


@pytest.mark.parametrize("path", sorted(experiment_folders()[1].glob("r[0-9]*.toml")), ids=lambda path: path.stem)
def test_a_claim_says_what_is_expected_how_long_it_takes_and_how_to_run_it_on_a_gpu(path: Path) -> None:
    told = "".join(line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.startswith("#"))
    assert told.startswith(f"# R{int(path.stem[1:3])}: ")
    assert re.search(r"^# Expected: ", told, re.MULTILINE)
    assert re.search(r"^# Takes \d+ minutes on 2 cores\.$", told, re.MULTILINE)
    assert re.search(r"^# On a GPU node: .*--model", told, re.MULTILINE)
