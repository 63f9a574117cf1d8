"""``ttft report``: make the report of one measurement again, or of several side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.terminal import console
from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.report import Report


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="a measurement's folder; several are shown side by side, unpooled"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the report [default: the measurement's own]")] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="also write requests, runs and spans as .parquet; one measurement only")
    ] = False,
) -> None:
    """Make the report of one measurement again, or of several side by side; needs no vLLM."""
    if not runs:
        raise UsageError(f"name a measurement's folder to report on{_newest()}")
    if parquet and len(runs) > 1:
        raise UsageError("--parquet takes one measurement at a time; several are not pooled")
    if parquet:  # first, since it says at once if pyarrow is missing
        from harness.results import load, write_parquet

        written = write_parquet(load(runs[0]), out or runs[0])
        console().print(f"Wrote {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    if len(runs) == 1:
        show(runs[0], out)
    elif out is None:
        raise UsageError("several measurements need a folder of their own for the report; give one with --out")
    else:
        show_several(runs, out)


def _newest(results: Path = Path("results")) -> str:
    """The last measurements below results/, as a hint."""
    there = sorted(file.parent for file in results.glob("*/run.json"))
    return f"; the newest here: {', '.join(map(str, there[-3:]))}" if there else ", as ttft report results/NAME"


def show(folder: Path, out: Path | None = None) -> None:
    """Print the table and the headline of a stored measurement, and write its report; needs no vLLM."""
    from harness import report as reports
    from harness.results import load

    report = reports.of(load(folder))
    say(report)
    _wrote(out or folder, report.write(out))


def show_several(folders: list[Path], out: Path) -> None:
    """Print each measurement's table and headline and what their environments do not share, and write the report."""
    from harness import report as reports
    from harness.core.text import printable

    terminal = console()
    several = reports.gather_several(folders)
    written = reports.write_several(several, out)
    for label, summary, said in zip(several.labels, several.summaries, several.headlines, strict=True):
        terminal.print(printable(label), markup=False, style="bold")
        say(reports.Report(summary, said))
    for one in several.differences:
        terminal.print(printable(f"! {one}"), markup=False, style="yellow", soft_wrap=True)
    _wrote(out, written)


def say(report: "Report") -> None:
    """The table, what its marks mean, warnings, and last, where the eye rests, the verdict."""
    from harness.core.findings import Severity
    from harness.core.text import printable

    terminal, said = console(), report.headline
    terminal.print(report.table.to_terminal())
    styles = {Severity.NOTE: "yellow", Severity.WARNING: "yellow", Severity.VOID: "bold red"}
    lines = [(note, "dim") for note in report.notes]
    lines += [(f"! {printable(one)}", styles[one.severity]) for one in report.summary.findings]
    lines += [
        (said.text, "bold red" if said.state == "bad" else "bold"),
        *((text, "") for text in said.more),
        (said.place, "dim"),
    ]
    for text, style in lines:
        terminal.print(text, markup=False, style=style, soft_wrap=True)


def _wrote(folder: Path, files: list[Path]) -> None:
    text = f"Wrote {len(files)} files below {folder}: report.html, report.md, summary.csv, pictures/"
    console().print(text, markup=False, soft_wrap=True)
