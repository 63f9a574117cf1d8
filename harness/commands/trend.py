"""``ttft trend``: ratios over time, from a history of verdicts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.terminal import console

if TYPE_CHECKING:
    from rich.table import Table

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
    terminal.print(_latest(series))
    table = _changes(series)
    if table.row_count:
        terminal.print(table)
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


def _table(*columns: str, title: str | None = None) -> "Table":
    """A table that begins with the names of the arms, whole."""
    from rich.table import Column, Table

    return Table(Column("candidate", overflow="fold"), Column("base", overflow="fold"), *columns, title=title)


def _latest(series: "list[Series]") -> "Table":
    from rich.markup import escape

    table = _table("metric", "verdicts", "refused", "latest", "ratio", "interval", "outcome")
    for one in series:
        last = one.rows.iloc[-1]
        bounds = ["?" if value != value else f"{value:.3f}" for value in (last["low"], last["high"])]
        words = [one.arm, one.base, one.metric, str(len(one.rows)), str(one.refused), str(last["time"])[:16]]
        table.add_row(*map(escape, words), f"{last['ratio']:.3f}", " to ".join(bounds), str(last["outcome"]))
    return table


def _changes(series: "list[Series]") -> "Table":
    from rich.markup import escape

    from harness.gate.history import changes

    table = _table("metric", "since", "commit", "before", "after", "change", title="Change points")
    for one in series:
        for change in changes(one):
            levels = (f"{change.before:.3f} ({change.n_before})", f"{change.after:.3f} ({change.n_after})")
            words = (one.arm, one.base, one.metric, change.time[:16], change.commit[:12] or "-", *levels)
            table.add_row(*map(escape, words), f"{100 * (change.after / change.before - 1):+.1f}%")
    return table
