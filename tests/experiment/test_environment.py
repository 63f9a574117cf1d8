"""What is noted of the machine: enough to tell two apart, nothing that names its owner."""

import json
import platform

import pytest

from harness.experiment import record as environment


def test_versions_are_of_what_changes_times() -> None:
    found = environment.versions()
    assert found["python"] == platform.python_version()
    assert {"ttft", "numpy", "pandas"} <= set(found)


def test_the_machine_survives_json_so_that_a_resume_can_compare_it() -> None:
    machine = environment.machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cores"] > 0
    assert machine["memory_bytes"] > 2**20
    assert machine["cpu"]


def test_the_machine_is_not_named() -> None:
    assert platform.node() not in environment.machine().values()


def test_only_variables_that_are_set_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = environment.binding()
    assert found["OMP_NUM_THREADS"] == "2"
    assert "LD_PRELOAD" not in found
