"""The command line. Each command is a file beside this one."""

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.commands.ab import ab
from harness.commands.calibrate import calibrate
from harness.commands.compare import compare
from harness.commands.doctor import doctor
from harness.commands.explain import explain
from harness.commands.export import export
from harness.commands.gate import gate
from harness.commands.listing import list_
from harness.commands.predict import predict
from harness.commands.report import report
from harness.commands.serve import serve
from harness.commands.store import store
from harness.commands.sweep import sweep
from harness.commands.timeline import timeline
from harness.commands.trend import trend
from harness.commands.tune import tune
from harness.commands.workload import workload
from harness.core.errors import SetupError, TtftError, UsageError
from harness.core.text import shortened

REPORT = ("pandas", "matplotlib")
"""Packages of the extra ``report``: who only loads the connector into vLLM does without."""

app = typer.Typer(
    name="ttft",
    help="Which way of fetching stored KV cache gives the lowest time to first token?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(short_help="Compare engines by TTFT, and report")(compare)
app.command(short_help="Compare two versions of a package, and judge")(ab)
app.command(short_help="Measure an experiment over a grid of settings")(sweep)
app.command(short_help="Serve vLLM with all arms of an experiment")(serve)
app.command("list", short_help="List what can be named, with options and defaults")(list_)
app.command(short_help="Report stored measurements again")(report)
app.command(short_help="Name each arm's bottleneck, and what would change it")(explain)
app.command(short_help="Export spans for Chrome's and Perfetto's viewers")(timeline)
app.command(short_help="Send numbers to Prometheus, MLflow, OpenTelemetry, llm-d")(export)
app.command(short_help="Recommend an arm by formula; measures nothing")(predict)
app.command(short_help="Measure a store and arms; recommend a configuration")(tune)
app.command(short_help="Judge PASS or FAIL by a margin, also in CI")(gate)
app.command(short_help="Measure A against A: the noise of this machine")(calibrate)
app.command(short_help="Show how ratios moved over time")(trend)
app.command(short_help="Say what is installed and what works here")(doctor)
app.add_typer(workload, name="workload", short_help="Look at a workload before anything is run")
app.add_typer(store, name="store", short_help="Check and measure a store of your own")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr and the exit code of its class."""
    try:
        _stand_somewhere()
        app(standalone_mode=True)
    except (TtftError, ModuleNotFoundError, OSError) as error:
        expected = error if isinstance(error, TtftError) else _said_of(error)
        typer.echo(f"error: {expected}", err=True)
        sys.exit(expected.exit_code)


def _stand_somewhere() -> None:
    """Raises UsageError if the current folder was removed: relative paths mean nothing then, and libraries end in tracebacks."""
    try:
        Path.cwd()
    except OSError:
        raise UsageError("the current folder does not exist any more; change to another one and try again") from None


NO_PLACE = (
    errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS
)  # fmt: skip
"""What may be wrong with a path that somebody named, or with the disk below it, whichever command meets it."""


def _said_of(error: ModuleNotFoundError | OSError) -> TtftError:
    """One sentence; what nobody could have meant is a fault of ours and is raised as it is."""
    if isinstance(error, ModuleNotFoundError):
        return _lacking(error)
    if error.errno not in NO_PLACE or error.filename is None:
        raise error
    return UsageError(
        f"'{shortened(str(error.filename), 300)}' cannot be used: {error.strerror}; give another path, or make it usable"
    )


def _lacking(error: ModuleNotFoundError) -> SetupError:
    """For a package of the extra ``report``; any other missing module is a fault of ours and is raised as it is."""
    package = (error.name or "").partition(".")[0]
    if package not in REPORT:
        raise error
    return SetupError(f"this command needs the package {package}; install it: pip install 'ttft[report]'")
