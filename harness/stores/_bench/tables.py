"""The result in words and tables for a terminal."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from harness.stores._bench.settings import Cell, size_text
from harness.stores._bench.summary import Estimate, LinkFit, Summary, plain

_ACTIONS = (("read", "read"), ("write", "write"), ("exists", "exists"))


def way(cell: Cell, limit: str = "") -> str:
    """How the calls of a cell are made."""
    if cell.action == "aread":
        return f"{cell.callers} {'loop' if cell.callers == 1 else 'loops'} x {cell.in_flight} in flight"
    if cell.action == "limit":
        return f"{limit}, {cell.callers} at once"
    return f"{cell.callers} {'thread' if cell.callers == 1 else 'threads'}"


def rates_table(summary: Summary, limit: str) -> Table:
    """One object per call: by threads, by event loops, and the limit."""
    table = Table(box=None, pad_edge=False, title="One object per call", title_justify="left")
    for name in ("size", "calls by", "per call, ms", "MB/s, all calls", "of 1 thread"):
        table.add_column(name, justify="left" if name in ("size", "calls by") else "right")
    for size in sorted({cell.size for cell in summary.of("read")}):
        base = Cell("read", size)
        cells = [
            cell for name in ("read", "aread", "limit") for cell in summary.of(name) if cell.size == size and cell.batch == 1
        ]
        for number, cell in enumerate(cells):
            ratio = "1" if cell == base else told(summary.ratio(cell, base), mark=True)
            call, rate = told(summary.call_s(cell), 1e3), told(summary.bytes_per_s(cell), 1e-6)
            table.add_row(size_text(size) if number == 0 else "", *map(Text, (way(cell, limit), call, rate, ratio)))
    return table


def batches_table(summary: Summary) -> Table | None:
    """One call of several keys against as many calls of one; None if no batches were measured."""
    batches = sorted({cell.batch for cell in summary.cells} - {1})
    if not batches:
        return None
    table = Table(box=None, pad_edge=False, title="A batch: times as fast as one call per key", title_justify="left")
    for name in ("call", "size", "one key per call, ms", *(f"{batch} keys" for batch in batches)):
        table.add_column(name, justify="left" if name in ("call", "size") else "right")
    for action, name in _ACTIONS:
        singles = [cell for cell in summary.of(action) if cell.batch == 1 and cell.callers == 1]
        for number, base in enumerate(singles):
            cells = [Cell(base.action, base.size, batch=batch) for batch in batches]
            ratios = [told(summary.ratio(cell, base), mark=True) if cell in summary else "" for cell in cells]
            size = "" if action == "exists" else size_text(base.size)
            table.add_row(name if number == 0 else "", *map(Text, (size, told(summary.call_s(base), 1e3), *ratios)))
    return table


def fit_lines(fit: LinkFit | None, summary: Summary) -> list[str]:
    """Latency and bandwidth, as ``ttft predict`` and ``shaped+`` take them."""
    if fit is None:
        return ["latency and bandwidth need two sizes or more: give --sizes"]
    total = max(summary.bytes_per_s(cell).value for name in ("read", "aread") for cell in summary.of(name))
    options = fit.options()
    latency, stream = (item.partition("=")[2] for item in options.split("&"))
    most = plain(total / 1e6)
    found = [
        f"one stream: a call takes {told(fit.latency_s, 1e3)} ms + bytes / {told(fit.bytes_per_s, 1e-6)} MB/s; "
        f"off by {fit.off:.0%} at {size_text(fit.off_size)}",
        f"for shaped+: {options}&total_mb_s={most}",
    ]
    if np.isfinite(fit.bytes_per_s.value):  # a stream without a bound is nothing that predict could take
        found.append(f"for ttft predict: --latency-ms {latency} --stream-mb-s {stream} --total-mb-s {most}")
    if total < fit.bytes_per_s.value:
        found.append(
            f"no way of calling reached more than {most} MB/s, so these sizes do not show a stream's bandwidth: give larger ones"
        )
    return found


def told(found: Estimate, scale: float = 1.0, mark: bool = False) -> str:
    """``1.23 (1.19 to 1.27)``; with ``mark``, ``~`` before a ratio that may be 1."""
    same = "~" if mark and found.low <= 1 <= found.high else ""
    return f"{same}{_short(found.value * scale)} ({_short(found.low * scale)} to {_short(found.high * scale)})"


def _short(value: float) -> str:
    if not np.isfinite(value):
        return "no bound"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def lines(summary: Summary, fit: LinkFit | None, said: Sequence[str]) -> list[str]:
    """What stands below the tables."""
    how = f"Medians of {summary.n} rounds in random order, 95% intervals over rounds in brackets; ~: may be no difference."
    return [how, *fit_lines(fit, summary), *said]
