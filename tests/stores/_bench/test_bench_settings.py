"""What is measured: how it is written, and which cells come of it."""

import pytest

from harness.core.errors import UsageError
from harness.stores._bench import (
    QUICK,
    USUAL,
    BenchSettings,
    Cell,
    Loops,
    cells_of,
    needed,
    parse_loops,
    parse_numbers,
    parse_sizes,
)
from harness.stores._bench.settings import MOST_WRITTEN, size_text


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("512", (512,)), ("64KiB,4MiB", (65536, 4 << 20)), (" 1GiB ", (1 << 30,)), ("7B, 2 KiB", (7, 2048))],
)
def test_sizes_are_understood(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_sizes("--sizes", text) == sizes


@pytest.mark.parametrize("text", ["", "0", "64kb", "4MiB,", "-1", "2GiB", "1e3", "99999999999"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--sizes .* is invalid; write sizes up to 1GiB"):
        parse_sizes("--sizes", text)


def test_sizes_are_shown_in_the_largest_whole_unit() -> None:
    assert [size_text(size) for size in (100, 2048, 1536 << 10, 4 << 20, 1 << 30)] == [
        "100 B", "2 KiB", "1,536 KiB", "4 MiB", "1 GiB",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "0", "1,x", "-2", "1025"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--threads .* is invalid; write numbers from 1 to 1,024"):
        parse_numbers("--threads", text)


@pytest.mark.parametrize("text", ["", "8", "1x0", "0x8", "1x8,", "64x64", "axb"])
def test_other_loops_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--loops .* is invalid; write event loops x calls in flight"):
        parse_loops("--loops", text)


def test_loops_are_understood_once_each() -> None:
    assert parse_loops("--loops", "1x8,2x4,1x8") == (Loops(1, 8), Loops(2, 4))


def test_what_others_are_compared_with_is_always_measured() -> None:
    settings = BenchSettings((4096,), (4,), (), (8, 1), 2)
    assert settings.threads == (1, 4)
    assert settings.batches == (8,)
    assert {Cell("read", 4096), Cell("write", 4096), Cell("exists", 4096)} <= set(cells_of(settings, limit=False))


@pytest.mark.parametrize("settings", [USUAL, QUICK])
def test_every_way_is_a_cell_once(settings: BenchSettings) -> None:
    cells = cells_of(settings, limit=True)
    assert len(set(cells)) == len(cells)
    for size in settings.sizes:
        reads = {(cell.callers, cell.batch) for cell in cells if cell.action == "read" and cell.size == size}
        assert reads == {(threads, 1) for threads in settings.threads} | {(1, batch) for batch in settings.batches}
        loops = {Loops(cell.callers, cell.in_flight) for cell in cells if cell.action == "aread" and cell.size == size}
        assert loops == set(settings.loops)
        assert {cell.callers for cell in cells if cell.action == "limit" and cell.size == size} == {1, max(settings.threads)}
    assert not any(cell.action == "limit" for cell in cells_of(settings, limit=False))


def test_there_are_objects_for_every_call_under_way() -> None:
    assert BenchSettings((1,), (1, 40), (Loops(4, 16),), (32,), 2).keys == 64


def test_writes_that_would_fill_the_disks_queue_are_left_out() -> None:
    size = MOST_WRITTEN // 8
    written = {
        cell.size for cell in cells_of(BenchSettings((size, 2 * size), (1,), (), (2,), 2), False) if cell.action == "write"
    }
    assert written == {size}


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 1000)
    assert needed(BenchSettings((1000, 2000), (1,), (), (), 2)).stored == 8 * 3000
    with pytest.raises(UsageError, match="8 objects of 200,000 bytes do not fit into the free memory"):
        needed(BenchSettings((200_000,), (1,), (), (), 2))
