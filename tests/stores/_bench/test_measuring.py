"""A measurement on real files: what is called how often, that wrong bytes end it, and that nothing stays behind."""

import csv
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import pytest

from harness.core.errors import ResultsError, RunError, UsageError
from harness.stores import open_store
from harness.stores._bench import Bench, BenchSettings, Cell, LongTable, Loops, cells_of, conduct
from harness.stores._bench.measuring import COLUMNS, MOST_TURNS
from harness.stores._checks import Scoped
from harness.stores.base import Buffer, Read, Store
from harness.stores.files.disk import DiskStore

SETTINGS = BenchSettings((1000, 5000), (2,), (Loops(1, 2), Loops(2, 1)), (3,), rounds=3)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/kv"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as store:
        store.write("theirs", [b"data"])
        yield store


@pytest.fixture
def table(tmp_path: Path) -> Iterator[LongTable]:
    table = LongTable(tmp_path / "out")
    yield table
    table.close()


class Time:
    """A budget of which ``left`` says what is left, each time that it is asked; enforced by nobody."""

    def __init__(self, left: Callable[[], float]) -> None:
        self._left = left

    @property
    def left(self) -> float:
        return self._left()

    def enforced(self) -> AbstractContextManager[None]:
        return nullcontext()


def run(store: Store, url: str, table: LongTable, left: Callable[[], float] = lambda: 1e9) -> None:
    conduct(store, url, SETTINGS, False, table, Time(left), lambda text: None)


def test_every_round_has_every_cell_once_in_another_order(store: Store, url: str, table: LongTable) -> None:
    run(store, url, table)
    orders = [[tuple(row[name] for name in COLUMNS[2:7]) for row in rows] for rows in table.rounds]
    assert len(orders) == SETTINGS.rounds
    assert all(Counter(order) == Counter(orders[0]) for order in orders)
    assert len(orders[0]) == len(cells_of(SETTINGS, limit=False))
    assert orders[0] != orders[1] != orders[2]


def test_the_order_comes_from_the_seed(store: Store, url: str) -> None:
    def orders() -> list[object]:
        part = Scoped(store, url, "own-")
        bench = Bench(part, SETTINGS, cells_of(SETTINGS, limit=False), None)
        for size in SETTINGS.sizes:
            bench.prepare(size)
        found = [[row["action"], row["size_bytes"], row["callers"]] for rows in islice(bench.rounds(), 2) for row in rows]
        bench.close()
        part.clean()
        return list(found)

    assert orders() == orders()


def test_the_rows_are_on_disk_and_of_equal_work(store: Store, url: str, table: LongTable) -> None:
    run(store, url, table)
    with table.file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SETTINGS.rounds * len(table.rounds[0])
    for size in SETTINGS.sizes:
        reads = [row for row in rows if row["action"] in ("read", "aread") and row["size_bytes"] == str(size)]
        assert len({row["keys"] for row in reads}) == 1
        assert all(int(row["bytes"]) == int(row["keys"]) * size for row in reads)
        assert all(0 < float(row["call_p50_s"]) <= float(row["seconds"]) for row in reads)
        assert int(reads[0]["keys"]) <= MOST_TURNS * SETTINGS.keys


def test_a_batch_is_one_call(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = DiskStore.read

    def read(self: DiskStore, reads: Sequence[Read]) -> None:
        sizes.append(len(reads))
        real(self, reads)

    part = Scoped(store, url, "own-")
    bench = Bench(part, SETTINGS, (Cell("read", 1000, batch=3),), None)
    bench.prepare(1000)
    monkeypatch.setattr(DiskStore, "read", read)
    bench.warm_up()
    bench.close()
    part.clean()
    assert sizes == [3, 3, 2]


def test_nothing_stays_behind_and_nothing_else_is_touched(store: Store, url: str, table: LongTable) -> None:
    run(store, url, table)
    assert list(store.keys()) == ["theirs"]


def test_wrong_bytes_end_it(store: Store, url: str, table: LongTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: DiskStore, reads: Sequence[Read]) -> None:
        for item in reads:
            item.out[0][:] = b"?" * item.length

    monkeypatch.setattr(DiskStore, "read", read)
    with pytest.raises(RunError, match="read of 1,000 B, 1 thread, 1 per call: object 1000-0 is not what was written"):
        run(store, url, table)
    assert list(store.keys()) == ["theirs"]


@pytest.mark.parametrize("at", [1, 9, 40])
def test_ctrl_c_leaves_nothing_behind(at: int, store: Store, url: str, table: LongTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the objects are written, and while cells are measured in other threads."""
    left = at
    real = DiskStore.write

    def write(self: DiskStore, key: str, parts: Sequence[Buffer]) -> None:
        nonlocal left
        real(self, key, parts)
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(DiskStore, "write", write)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(store, url, table)
    assert list(store.keys()) == ["theirs"]
    assert threading.active_count() == threads


def test_objects_that_vanish_are_said(store: Store, url: str) -> None:
    part = Scoped(store, url, "own-")
    bench = Bench(part, SETTINGS, (Cell("exists", 1000, batch=3),), None)
    bench.prepare(1000)
    part.delete(["1000-1"])
    with pytest.raises(RunError, match="only 1 of 3 objects are there"):
        bench.warm_up()
    bench.close()
    part.clean()


def test_too_little_time_for_two_rounds_is_refused(store: Store, url: str, table: LongTable) -> None:
    with pytest.raises(UsageError, match="--budget is too short for 2"):
        run(store, url, table, left=lambda: -1.0)
    assert list(store.keys()) == ["theirs"]


def test_time_that_runs_out_ends_the_rounds(store: Store, url: str, table: LongTable) -> None:
    run(store, url, table, left=iter([1e9, 1e9, -1.0]).__next__)
    assert len(table.rounds) == 2


def test_a_folder_is_measured_into_once(tmp_path: Path) -> None:
    LongTable(tmp_path / "out").close()  # nothing was measured
    table = LongTable(tmp_path / "out")
    table.append([])
    table.close()
    with pytest.raises(ResultsError, match="already holds a measurement"):
        LongTable(tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        LongTable(tmp_path / "file" / "out")
