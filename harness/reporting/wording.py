"""Numbers as words: the same rounding in every sentence, table and file."""

from harness.core.table import Cell
from harness.stats import Comparison, Interval, Share


def seconds(value: float, unit: str = "") -> str:
    """A time with three digits or so, in ms below 10 s: ``206 ms``. With ``unit`` (ms, s) only the number, in it."""
    name = unit or ("s" if value >= 10 else "ms")
    number = value * (1 if name == "s" else 1e3)
    digits = 0 if number >= 100 and name == "ms" else 1 if number >= 10 else 2
    return f"{number:,.{digits}f}" + ("" if unit else f" {name}")


def ratio(value: float) -> str:
    """A ratio with the digits that matter: 0.294, 0.98, 1.24, 12.4."""
    if value < 0.1:
        return f"{value:#.2g}"
    return f"{value:.3f}" if abs(value - 1) < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def percent(part: float) -> str:
    """A share as a percentage with the digits that matter: 76%, 9.4%, 0.12%."""
    value = 100 * part
    return f"{value:.0f}%" if abs(value) >= 10 and abs(value) < 99.5 else f"{value:.1f}%" if abs(value) >= 1 else f"{value:.2g}%"


def bounds(low: float, high: float) -> str:
    """An interval of ratios, ``0.28 to 0.31``; open where one bound is unknown."""
    if low <= 0 and high == float("inf"):
        return "unknown"
    if high == float("inf"):
        return f"above {ratio(low)}"
    return f"below {ratio(high)}" if low <= 0 else f"{ratio(low)} to {ratio(high)}"


def compared(comparison: Comparison | None) -> Cell:
    """A comparison for a table: ``~0.98`` with ``0.95 to 1.01``; ``~`` if no difference is shown."""
    if comparison is None:
        return Cell("-")
    return Cell(comparison.mark + ratio(comparison.ratio), bounds(comparison.low, comparison.high))


def share(found: Share | None) -> Cell:
    """A share of load hidden for a table: ``95%`` with ``93 to 97``."""
    if found is None or found.value is None or found.low is None or found.high is None or not abs(found.value) < 100:
        return Cell("-")
    low, high = (("?" if not abs(end) < 100 else f"{100 * end:.0f}") for end in (found.low, found.high))
    return Cell(f"{100 * found.value:.0f}%", f"{low} to {high}")


def time_cell(interval: Interval | None, unit: str, thin: bool) -> str:
    """A time for a table's cell; ``*`` if it rests on few requests, ``-`` if it cannot be shown."""
    return "-" if interval is None else seconds(interval.value, unit) + ("*" if thin else "")
