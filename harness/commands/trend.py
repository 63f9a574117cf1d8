"""``ttft trend``: ratios over time, from a history of verdicts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.terminal import console

if TYPE_CHECKING:
    from harness.core.table import Table
    from harness.gate.history import Series


def trend(
    history: Annotated[Path, typer.Argument(help="the file that `ttft gate --history` appends to, .csv or .parquet")],
    metric: Annotated[list[str] | None, typer.Option(help="only this metric; give several for more [default: all]")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="only this candidate; give several for more [default: all]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="the picture: .png, .svg or .pdf [default: trend.png beside the history]")
    ] = None,
) -> None:
    """Show how ratios moved over time, and since which commit they are at their present level."""
    from harness.gate import history as trends
    from harness.gate.history import read
    from harness.reporting.figures.trend import check_kind, draw, save

    picture = out or history.absolute().parent / "trend.png"
    check_kind(picture)
    series = trends.series_of(read(history), metric or [], arm or [])
    terminal = console()
    terminal.print(_latest(series).to_terminal())
    table = _changes(series)
    if table.rows:
        terminal.print(table.to_terminal(titled=True))
    else:
        terminal.print("No change points.")
    short = sum(len(one.rows) < trends.LEAST for one in series)
    if short:
        terminal.print(
            f"Too few verdicts to look for change points in {short} of {len(series)} series; {trends.LEAST} are needed.",
            soft_wrap=True,
        )
    save(draw(series), picture)
    terminal.print(f"Wrote {picture}", markup=False, soft_wrap=True)


def _latest(series: "list[Series]") -> "Table":
    from harness.core.table import Cell, Table

    rows = []
    for one in series:
        last = one.rows.iloc[-1]
        low, high = ("?" if value != value else f"{value:.3f}" for value in (last["low"], last["high"]))
        words = [one.arm, one.base, one.metric, str(len(one.rows)), str(one.refused), str(last["time"])[:16]]
        rows.append([*map(Cell, words), Cell(f"{last['ratio']:.3f}", f"{low} to {high}"), Cell(str(last["outcome"]))])
    head = ["candidate", "base", "metric", "verdicts", "refused", "latest", "ratio (interval)", "outcome"]
    return Table("The latest verdicts", head, rows, left=3, bare=6)


def _changes(series: "list[Series]") -> "Table":
    from harness.core.table import Cell, Table
    from harness.gate.history import changes

    rows = []
    for one in series:
        for change in changes(one):
            words = [one.arm, one.base, one.metric, change.time[:16], change.commit[:12] or "-"]
            levels = [Cell(f"{change.before:.3f}", str(change.n_before)), Cell(f"{change.after:.3f}", str(change.n_after))]
            rows.append([*map(Cell, words), *levels, Cell(f"{100 * (change.after / change.before - 1):+.1f}%")])
    head = ["candidate", "base", "metric", "since", "commit", "before (verdicts)", "after (verdicts)", "change"]
    return Table("Change points", head, rows, left=5, bare=5)
