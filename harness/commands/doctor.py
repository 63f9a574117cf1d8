"""``ttft doctor``: what is installed and what works here."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.commands.terminal import console


def doctor(place: Annotated[Path, typer.Option(help="where the store will be")] = Path("/tmp")) -> None:
    """Say what is installed, what works here, and what to do about the rest."""
    from harness.doctor import checks

    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found", "what to do"):
        table.add_column(column, overflow="fold")
    failed = False
    for check in checks(place):
        mark = {True: "ok", False: "NO", None: "-"}[check.ok]
        failed = failed or check.ok is False
        table.add_row(mark, escape(check.name), escape(check.detail), escape(check.fix if check.ok is not True else ""))
    console().print(table)
    if failed:
        raise typer.Exit(2)
