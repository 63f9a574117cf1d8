"""``ttft report``: render one run again, or several side by side."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.terminal import console
from harness.core.errors import UsageError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="a run's folder; several stand side by side, unpooled")],
    out: Annotated[Path | None, typer.Option(help="folder for the report [default: the run's own]")] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="also write requests, runs and spans as .parquet; one run only")
    ] = False,
) -> None:
    """Render the report of one run again, or of several side by side; needs no vLLM."""
    if parquet and len(runs) > 1:
        raise UsageError("--parquet is for one run at a time; several are not pooled")
    if parquet:  # first, since it says at once where pyarrow is missing
        from harness.results import load, write_parquet

        written = write_parquet(load(runs[0]), out or runs[0])
        console().print(f"Wrote {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    if len(runs) == 1:
        show(runs[0], out)
    elif out is None:
        raise UsageError("several runs need a folder of their own for the report; give one with --out")
    else:
        show_several(runs, out)


def show(folder: Path, out: Path | None = None) -> None:
    """Print the table and the headline of a stored run, and write its report; needs no vLLM."""
    from harness import report as reports
    from harness.results import load

    run = load(folder)
    terminal = console()
    terminal.print(reports.table(run))
    terminal.print(reports.headline(run), markup=False, soft_wrap=True)
    _wrote(out or folder, reports.render(folder, out))


def show_several(folders: list[Path], out: Path) -> None:
    """Print each run's table and headline and what their environments do not share, and write the report."""
    from harness import report as reports
    from harness.core.text import printable
    from harness.results import load

    terminal = console()
    several = reports.gather_several(folders)
    written = reports.render_several(folders, out)
    for folder, (label, verdict) in zip(folders, several.verdicts, strict=True):
        terminal.print(printable(label), markup=False, style="bold")
        terminal.print(reports.table(load(folder)))
        terminal.print(verdict, markup=False, soft_wrap=True)
    for text in several.differences:
        terminal.print(printable(f"! {text}"), markup=False, style="yellow", soft_wrap=True)
    _wrote(out, written)


def _wrote(folder: Path, files: list[Path]) -> None:
    text = f"Wrote {len(files)} files below {folder}: report.html, report.md, summary.csv, pictures/"
    console().print(text, markup=False, soft_wrap=True)
