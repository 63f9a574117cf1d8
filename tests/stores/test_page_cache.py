"""Counting cached pages: the old and the new way agree, and neither invents a number."""

from pathlib import Path

import pytest

from harness.stores.files import page_cache
from harness.stores.files.page_cache import PAGE, drop, resident_pages


@pytest.fixture(params=["cachestat", "mincore"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Both ways, each alone; skips where the kernel lacks it."""
    other = {"cachestat": "_mincore", "mincore": "_cachestat"}[request.param]
    monkeypatch.setattr(page_cache, other, lambda *_: None)
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    with probe.open("rb") as file:
        if resident_pages(file.fileno(), 1) is None:
            pytest.skip(f"this kernel has no {request.param}")
    return str(request.param)


def test_written_pages_are_counted_with_a_partial_one_at_the_end(way: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (5 * PAGE + 1))
    with path.open("rb") as file:
        assert resident_pages(file.fileno(), 5 * PAGE + 1) == 6


def test_dropped_pages_are_not(way: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (50 * PAGE))
    with path.open("rb") as file:
        drop(file.fileno())
        left = resident_pages(file.fileno(), 50 * PAGE)
        if left == 50:
            pytest.skip("temporary files lie in memory here")
        assert left == 0


def test_an_empty_file_has_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as file:
        assert resident_pages(file.fileno(), 0) == 0


def test_a_kernel_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_cachestat", lambda *_: None)
    monkeypatch.setattr(page_cache, "_mincore", lambda *_: None)
    path = tmp_path / "file"
    path.write_bytes(b"x" * PAGE)
    with path.open("rb") as file:
        assert resident_pages(file.fileno(), PAGE) is None
