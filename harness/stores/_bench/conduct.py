"""Running a measurement: write, warm up, rounds until all are done or time is up, clean up whatever happens."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Protocol

from harness.core.csv_cells import CsvWriter
from harness.core.errors import ResultsError, UsageError
from harness.stores._bench.limits import limit_of
from harness.stores._bench.measuring import COLUMNS, Bench, Row
from harness.stores._bench.settings import BenchSettings, cells_of, size_text
from harness.stores._checks import Scoped, clean, fresh_prefix
from harness.stores.base import Store

LEAST = 2
"""Rounds for any interval."""
ENOUGH = 6
"""Rounds for one that assumes no distribution (harness/stats/location.py)."""


class Budget(Protocol):
    """How long a measurement may take, in seconds."""

    @property
    def left(self) -> float:
        """Seconds in which one may still measure."""

    def enforced(self) -> AbstractContextManager[None]:
        """Raises KeyboardInterrupt inside when it is over."""


class LongTable:
    """Rows of ``bench.csv``, on disk as soon as their round is over; ``rounds`` has them as well. Close it.

    ``notes`` are to be read beside the numbers, ``limit`` is what the limit's numbers are of, empty without one.
    """

    def __init__(self, folder: Path) -> None:
        """Begin the file. Raises ResultsError if it cannot be written, or is there already."""
        self.file = folder / "bench.csv"
        self.rounds: list[list[Row]] = []
        self.notes: list[str] = []
        self.limit = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.file.open("x", newline="", encoding="utf-8")
        except FileExistsError:
            raise ResultsError(f"{folder} already holds a measurement of a store; give another --out") from None
        except OSError as error:
            raise ResultsError(f"{self.file} cannot be written: {error.strerror}; give another folder with --out") from error
        self._csv = CsvWriter(self._stream, COLUMNS)
        self._csv.header()

    def append(self, rows: list[Row]) -> None:
        """One round."""
        self.rounds.append(rows)
        try:
            self._csv.rows(rows)
            self._stream.flush()
        except OSError as error:
            raise ResultsError(f"{self.file} cannot be written: {error.strerror}; make room") from error

    def close(self) -> None:
        """Close the file; without a round it is deleted, so that its folder can be used again."""
        self._stream.close()
        if not self.rounds:
            self.file.unlink(missing_ok=True)


def conduct(
    store: Store,
    address: str,
    settings: BenchSettings,
    limited: bool,
    table: LongTable,
    budget: Budget,
    tell: Callable[[str], None],
) -> None:
    """Measure into ``table``; ``address`` is the store's URL as given.

    Deletes what it wrote, also when it is interrupted. Raises StoreError, RunError, ResultsError, and UsageError
    if the time is too short for two rounds.
    """
    part = Scoped(store, address, fresh_prefix("bench"))
    with ExitStack() as stack:
        stack.callback(clean, part)
        limit, said = limit_of(store, settings.sizes, settings.keys) if limited else (None, "")
        table.notes += [*store.notes, *([said] if said else [])]
        if limit is not None:
            stack.callback(limit.close)
            table.limit = limit.name
        cells = cells_of(settings, limit is not None)
        bench = stack.enter_context(closing(Bench(part, settings, cells, limit)))
        with budget.enforced():  # and not the cleaning up
            for size in settings.sizes:
                tell(f"writing {settings.keys} objects of {size_text(size)}")
                bench.prepare(size)
            tell(f"checking that each of {len(cells)} ways of calling gives the right bytes")
            bench.warm_up()
            tell(f"measuring {settings.rounds} rounds")
            _rounds(bench, settings.rounds, table, budget)


def _rounds(bench: Bench, wanted: int, table: LongTable, budget: Budget) -> None:
    rounds, longest = bench.rounds(), 0.0
    for number in range(wanted):
        if number and longest > budget.left:
            break
        begin = time.monotonic()
        table.append(next(rounds))
        longest = max(longest, time.monotonic() - begin)
        if number == 0 and longest * (LEAST - 1) > budget.left:
            raise UsageError(f"a round takes {longest:.0f} s, so --budget is too short for {LEAST}; give more, or fewer --sizes")


def notes(measured: int, wanted: int) -> list[str]:
    """What this many of the wanted rounds allow to say."""
    found = [f"{measured} of {wanted} rounds were measured"] if measured < wanted else []
    if measured < ENOUGH:
        found.append(f"with fewer than {ENOUGH} rounds the intervals assume normally distributed noise")
    return found
