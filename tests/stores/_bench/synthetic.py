"""Rounds of a measurement that never took place: times that follow a rule."""

from collections.abc import Callable, Sequence

from harness.stores._bench import BenchSettings, Cell, Loops, cells_of
from harness.stores._bench.measuring import COLUMNS, Row

SETTINGS = BenchSettings((4096, 65536, 1 << 20), (1, 4), (Loops(1, 4), Loops(2, 2)), (8,), rounds=6)


def rounds_of(seconds_a_key: Callable[[Cell, int], float], settings: BenchSettings = SETTINGS) -> Sequence[list[Row]]:
    """The rounds in which a key of a cell took ``seconds_a_key(cell, round)``."""
    return [
        [_row(cell, number, position, settings.keys, seconds_a_key(cell, number)) for position, cell in enumerate(cells)]
        for number in range(settings.rounds)
        for cells in [cells_of(settings, limit=True)]
    ]


def _row(cell: Cell, number: int, position: int, keys: int, each_s: float) -> Row:
    size = 0 if cell.action == "exists" else cell.size
    call_s = each_s * cell.batch * cell.callers * cell.in_flight
    values = (number, position, cell.action, cell.size, cell.callers, cell.in_flight, cell.batch, keys, keys * size)
    return dict(zip(COLUMNS, (*values, each_s * keys, call_s), strict=True))
