"""The doctor: every finding that is bad says what to do."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.commands import doctor
from harness.commands.doctor import checks
from harness.core.errors import SetupError, StoreUnavailable
from harness.core.installation import Check
from harness.stores.base import Store


def named(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_every_check_has_its_own_name_a_detail_and_a_fix_where_it_failed(tmp_path: Path) -> None:
    found = checks(tmp_path)
    assert len(named(found)) == len(found)
    assert all(check.detail for check in found)
    assert all(check.fix for check in found if check.ok is False)


def test_the_machine_that_runs_the_tests_is_fit(tmp_path: Path) -> None:
    found = named(checks(tmp_path))
    must = ("python", "vLLM", "torch", "shared memory", "disk", "engines", "stores", "workloads")
    assert {name: found[name].detail for name in must if not found[name].ok} == {}


def test_probing_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    checks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_implementations_are_listed(tmp_path: Path) -> None:
    found = named(checks(tmp_path))
    assert {"chunkwise", "layerwise"} <= set(found["engines"].detail.split(", "))
    assert {"file", "mem"} <= set(found["stores"].detail.split(", "))
    assert {"mooncake", "shared_prefix"} <= set(found["workloads"].detail.split(", "))


def test_a_package_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise SetupError("the store 'theirs' of package x:Y does not import")

    monkeypatch.setattr("harness.stores.STORES", SimpleNamespace(all=broken))
    found = named(list(doctor.plugins()))
    assert found["stores"].ok is False
    assert "'theirs'" in found["stores"].detail
    assert found["engines"].ok is True


@pytest.mark.parametrize("probe", [doctor.direct_io, doctor.page_cache, doctor.disk])
def test_a_place_that_is_not_there_is_told(probe: Callable[[Path], Check], tmp_path: Path) -> None:
    found = probe(tmp_path / "none")
    assert found.ok is False
    assert str(tmp_path / "none") in found.detail


def test_too_little_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=doctor.NEEDED_DISK - 1))
    found = doctor.disk(tmp_path)
    assert found.ok is False
    assert "3 are needed" in found.detail
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=doctor.NEEDED_DISK))
    assert doctor.disk(tmp_path).ok is True


def test_a_store_that_cannot_read_directly_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> Store:
        raise StoreUnavailable(f"{url} cannot be opened with O_DIRECT")

    monkeypatch.setattr("harness.stores.open_store", refuse)
    assert doctor.direct_io(tmp_path).ok is False
    assert "O_DIRECT" in doctor.direct_io(tmp_path).detail


def test_a_page_cache_that_does_not_let_go_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.stores.files.disk.DiskStore.evict_from_os_cache", lambda *_: False)
    found = doctor.page_cache(tmp_path)
    assert found.ok is False
    assert "--page-cache warm" in found.fix


@pytest.mark.parametrize(
    ("free", "cores", "ok", "fix"), [(8, 2, True, ""), (7, 2, False, "free 8 GiB"), (8, 1, False, "two cores")]
)
def test_a_machine_that_is_too_small_is_told(monkeypatch: pytest.MonkeyPatch, free: int, cores: int, ok: bool, fix: str) -> None:
    monkeypatch.setattr(doctor, "memory", lambda: (16 << 30, free << 30))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    found = doctor.machine_size()
    assert found.ok is ok
    assert fix in found.fix
    assert f"{cores} cores, {free}.0 of 16.0 GiB" in found.detail


def test_memory_is_told_in_bytes() -> None:
    total, free = doctor.memory()
    assert 1 << 26 < free <= total < 1 << 50


def test_thread_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    assert "VLLM_CPU_OMP_THREADS_BIND=0|1" in doctor.threads().detail
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "OMP_NUM_THREADS", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    assert doctor.threads() == Check("threads", None, "vLLM binds its threads as it likes")


def test_a_missing_program_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = named(list(doctor.tools()))
    assert found["fio"] == Check("fio", None, "not installed; for the limit in ttft store bench", "apt-get install fio")
    assert all(check.ok is None for check in found.values())
