"""The command line: parse, call, print. The work is in harness/."""

import json
import os
import shlex
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import __version__
from harness.errors import TtftError, UsageError, VoidRuns

app = typer.Typer(
    name="ttft",
    help="Which way of fetching stored KV cache gives the first token sooner?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130


def _console() -> Console:
    """Made anew at each use, so that it prints to the current stdout; wide enough for tables where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


@app.command()
def compare(
    experiment: Annotated[str, typer.Argument(help="name of an experiment (ttft list experiments) or a TOML file")] = "default",
    arm: Annotated[
        list[str] | None, typer.Option(help="engine spec, e.g. layerwise:depth=4; give several; the first is the base")
    ] = None,
    store: Annotated[str | None, typer.Option(help="URL of the store, e.g. file:///tmp/kv")] = None,
    workload: Annotated[str | None, typer.Option(help="workload spec, e.g. shared_prefix:prefix=4096,suffix=128")] = None,
    pairs: Annotated[int | None, typer.Option(help="rounds: one run of each arm makes a round")] = None,
    cache_state: Annotated[str | None, typer.Option(help="primed or natural")] = None,
    page_cache: Annotated[str | None, typer.Option(help="warm or dropped")] = None,
    concurrency: Annotated[int | None, typer.Option(help="requests under way at once")] = None,
    model: Annotated[str | None, typer.Option(help="builtin[:option=value], a local folder, or a hub name")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, bfloat16, float16 or float32")] = None,
    bounds: Annotated[bool | None, typer.Option("--bounds/--no-bounds", help="measure floor and recompute as well")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="any other setting, KEY=VALUE (ttft list settings)")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; must be new [default: results/<time>-<experiment>]")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with an interrupted run in this folder")] = None,
    dry_run: Annotated[bool, typer.Option(help="print the plan and stop")] = False,
) -> None:
    """Compare engines: prime a store, prove correctness, replay prompts in turns, report TTFT."""
    from harness.config import given_settings, merge, read_experiment
    from harness.experiment.setting import settle

    flags: dict[str, Any] = {
        "arms": arm or None,
        "store": store,
        "workload": workload,
        "pairs": pairs,
        "cache_state": cache_state,
        "page_cache": page_cache,
        "concurrency": concurrency,
        "model": model,
        "dtype": dtype,
        "bounds": bounds,
        **given_settings(setting or []),
    }
    if resume is not None:
        _resume(resume, flags, out)
        return
    settled = settle(merge(read_experiment(experiment), flags))
    folder = out or Path("results") / f"{datetime.now():%Y%m%d-%H%M%S}-{Path(experiment).stem}"
    if dry_run:
        _print_plan(settled, folder)
        return
    if (folder / "run.json").exists() or (folder / "requests.csv").exists():
        raise UsageError(f"{folder} already holds a run; give another --out, or go on with it by --resume {folder}")
    _measure(settled, folder)


def _resume(folder: Path, flags: dict[str, Any], out: Path | None) -> None:
    from harness.config import Experiment, merge
    from harness.experiment.earlier import earlier_of
    from harness.experiment.setting import settle
    from harness.results import load

    given = [name for name, value in flags.items() if value is not None and name != "store"]
    if given or out is not None:
        raise UsageError(f"--resume takes its settings from {folder / 'run.json'}; leave out {', '.join(given) or '--out'}")
    run = load(folder)
    config = run.meta.get("config")
    if not isinstance(config, dict):
        raise UsageError(f"{folder / 'run.json'} holds no settings, so the run cannot be resumed; begin a new one")
    known = {key: value for key, value in config.items() if key in Experiment.model_fields}
    settled = settle(merge(known, {"store": flags["store"]}))
    earlier = earlier_of(run, settled)
    if not earlier.left_of(_plan(settled)):
        raise UsageError(f"{folder} has all of its runs, so nothing is left to measure; read it with: ttft report {folder}")
    _measure(settled, folder, earlier)


def _plan(settled: Any) -> Any:
    """The runs of an experiment in their order."""
    from harness.experiment.order import schedule
    from harness.experiment.setting import RECOMPUTE

    experiment = settled.experiment
    return schedule(list(settled.arms), experiment.pairs, [RECOMPUTE], experiment.recompute_rounds)


def _measure(settled: Any, folder: Path, earlier: Any = None) -> None:
    """Measure, then report whatever was measured, also after Ctrl-C or a failure."""
    from harness.experiment.conduct import measure
    from harness.experiment.earlier import NOTHING
    from harness.progress_bar import ProgressBar
    from harness.stores.base import redact

    command = " ".join(shlex.quote(redact(word) if "://" in word else word) for word in ["ttft", *sys.argv[1:]])
    # A job that is ended from outside (a time limit, a shutdown) cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    console = _console()
    console.print(f"Measuring into {escape(str(folder))}", soft_wrap=True)
    try:
        with ProgressBar(console) as progress:
            meta = measure(settled, folder, command, progress, earlier or NOTHING)
    except KeyboardInterrupt:
        _report_if_any(folder)
        console.print(
            f"Interrupted; what was measured is kept. Go on with: ttft compare --resume {escape(str(folder))}", soft_wrap=True
        )
        raise typer.Exit(INTERRUPTED) from None
    except TtftError:
        _report_if_any(folder)
        raise
    _report(folder)
    if meta["void_runs"]:
        first = meta["void_runs"][0]
        raise VoidRuns(f"{len({entry['run'] for entry in meta['void_runs']})} runs are void, the first (run {first['run']}, "
                       f"arm {first['arm']}): {first['reason']}")  # fmt: skip


def _report_if_any(folder: Path) -> None:
    from harness.results import load

    if (folder / "run.json").exists() and len(load(folder).requests):
        _report(folder)


def _report(folder: Path) -> None:
    from harness import report as reports
    from harness.results import load

    run = load(folder)
    console = _console()
    console.print(reports.table(run))
    console.print(reports.headline(run), markup=False, soft_wrap=True)
    written = reports.render(folder)
    console.print(f"Wrote {len(written)} files below {folder}: report.md, summary.csv, pictures/", markup=False, soft_wrap=True)


def _print_plan(settled: Any, folder: Path) -> None:
    experiment, plan = settled.experiment, _plan(settled)
    lengths = sorted(len(prompt.tokens) for prompt in settled.data.prompts)
    lines = [
        f"folder    {folder}",
        f"model     {settled.model.name} in {settled.dtype}, up to {settled.max_model_len} tokens",
        f"prompts   {len(lengths)} of {lengths[0]} to {lengths[-1]} tokens, {sum(settled.hits)} of {sum(lengths)} tokens hit",
        f"priming   {settled.primed_chunks} chunks of {experiment.chunk_tokens} tokens",
        f"runs      {len(plan)}: " + " ".join(f"{run.pair}:{run.arm}" for run in plan[: 2 * len(settled.arms)]) + " ...",
        f"requests  {len(plan) * len(lengths)}",
        *settled.notes,
    ]
    for line in lines:
        typer.echo(line)


@app.command("list")
def list_(kind: Annotated[str, typer.Argument(help="engines, stores, workloads, experiments or settings")]) -> None:
    """List what can be named, with options and defaults."""
    from harness.catalogue import catalogue

    for item in catalogue(kind):
        _console().print(item, markup=False)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="a run's folder")]) -> None:
    """Render a run's report again; needs no vLLM."""
    _report(run)


@app.command()
def gate(
    run: Annotated[Path, typer.Argument(help="a run's folder; with a second one, the base")],
    other: Annotated[Path | None, typer.Argument(help="a second run's folder, of the same environment: the candidate")] = None,
    margin: Annotated[
        list[str] | None, typer.Option("--max", help="METRIC:PERCENT that it may be slower by, e.g. p50:5%")
    ] = None,
    candidate: Annotated[str | None, typer.Option(help="the arm to judge")] = None,
    base: Annotated[str | None, typer.Option(help="the arm it is held against")] = None,
    relative_to: Annotated[
        str | None, typer.Option(help="with two runs: a control arm that both have, so that machines may differ")
    ] = None,
    alpha: Annotated[float, typer.Option(help="error rate of each bound")] = 0.05,
    out: Annotated[Path | None, typer.Option(help="folder for verdict.json, verdict.md and junit.xml")] = None,
) -> None:
    """Judge stored results: PASS (exit 0), FAIL (1), no verdict possible (2), INCONCLUSIVE (3)."""
    from harness import gate as gates
    from harness.results import load

    margins = gates.parse_margins(margin or [])
    if other is not None:
        verdict = gates.judge_runs(load(run), load(other), margins, base, candidate, alpha, relative_to)
    elif candidate is None or base is None:
        raise UsageError("to judge one run name its arms: --candidate ARM --base ARM")
    elif relative_to is not None:
        raise UsageError("--relative-to needs two runs; give the candidate's folder as well")
    else:
        verdict = gates.judge_run(load(run), candidate, base, margins, alpha)
    typer.echo(gates.markdown(verdict))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in gates.annotations(verdict):
            typer.echo(line)
    if out is not None:
        files = {
            "verdict.json": json.dumps(verdict.to_json(), indent=2) + "\n",
            "verdict.md": gates.markdown(verdict),
            "junit.xml": gates.junit(verdict),
        }
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (out / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"the verdict cannot be written to {out}: {error.strerror}; give another folder with --out"
            ) from error
    raise typer.Exit(verdict.exit_code)


@app.command()
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
    _console().print(table)
    if failed:
        raise typer.Exit(2)


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
        app(standalone_mode=True)
    except TtftError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
