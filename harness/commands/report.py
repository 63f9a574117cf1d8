"""``ttft report``: render a run again."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.terminal import console


def report(run: Annotated[Path, typer.Argument(help="a run's folder")]) -> None:
    """Render a run's report again; needs no vLLM."""
    show(run)


def show(folder: Path) -> None:
    """Print the table and the headline of a stored run, and write its report; needs no vLLM."""
    from harness import report as reports
    from harness.results import load

    run = load(folder)
    terminal = console()
    terminal.print(reports.table(run))
    terminal.print(reports.headline(run), markup=False, soft_wrap=True)
    written = reports.render(folder)
    terminal.print(f"Wrote {len(written)} files below {folder}: report.md, summary.csv, pictures/", markup=False, soft_wrap=True)
