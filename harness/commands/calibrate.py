"""``ttft calibrate``: A against A on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.measuring import (
    INTERRUPTED,
    has_requests,
    measured,
    new_folder,
    peers_that_cannot_run,
    refuse_a_budget_that_ends_before_vllm_starts,
)
from harness.commands.options import (
    CacheState,
    Concurrency,
    Dtype,
    Model,
    Named,
    PageCache,
    Settings,
    SpanLog,
    Store,
    Target,
    Workload,
)
from harness.commands.preflight import preflight, print_plan
from harness.commands.terminal import console
from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.core.table import Table
    from harness.gate.calibration import Calibration

SHOWN = (4, 6, 8, 12, 20, 50)
"""Numbers of pairs whose margins are printed; the file has more."""

ENOUGH_GATES = 20
"""With fewer, a rate above 17% is possible even if there was no alarm."""


def calibrate(
    experiment: Named = "default",
    arm: Annotated[
        str | None, typer.Option(help="engine spec to measure against itself [default: the experiment's first]")
    ] = None,
    pairs: Annotated[int, typer.Option(help="pairs of runs, at least 8")] = 20,
    budget: Annotated[str | None, typer.Option(help="end within this time, as 10m, with the pairs measured by then")] = None,
    store: Store = None,
    workload: Workload = None,
    cache_state: CacheState = None,
    page_cache: PageCache = None,
    concurrency: Concurrency = None,
    model: Model = None,
    dtype: Dtype = None,
    target: Target = None,
    span_log: SpanLog = None,
    setting: Settings = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="give several [default: mean, p50, p90, p95 if the runs have enough requests]")
    ] = None,
    alpha: Annotated[float, typer.Option(help="error rate of the gate's bounds")] = 0.05,
    gate_pairs: Annotated[int, typer.Option(help="pairs of the gates whose false alarms are counted")] = 6,
    from_run: Annotated[
        Path | None, typer.Option("--from", help="measure nothing: take this measurement, which has two like arms")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="folder of the measurement; must be new [default: results/<time>-calibrate-<experiment>]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the calibration's file [default: calibration.json beside the measurement's folder]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be measured and stop")] = False,
) -> None:
    """Measure A against A: how large noise is here, and the smallest margin that a gate can hold."""
    from harness.gate import calibration as calibrations
    from harness.gate.alike import calibrate_run, like_arms
    from harness.gate.judge import check_rate
    from harness.results import load
    from harness.stats import parse_metric

    check_rate(alpha)
    for name in metric or []:
        parse_metric(name)
    calibrations.check_pairs(pairs)
    wanted: dict[str, Any] = {
        "store": store,
        "workload": workload,
        "cache_state": cache_state,
        "page_cache": page_cache,
        "concurrency": concurrency,
        "model": model,
        "dtype": dtype,
        "target": target,
        "target_span_log": str(span_log) if span_log is not None else None,
    }
    if from_run is None:
        wanted["pairs"] = pairs
        from_run = _measure(experiment, arm, wanted, setting or [], budget, folder, dry_run, metric or [])
    elif any(value is not None for value in wanted.values()) or setting or budget or folder or dry_run:
        raise UsageError("--from takes a measurement as it is; remove the options that say how to measure one")
    run = load(from_run)
    base, again = like_arms(run, arm)
    found = calibrate_run(run, base, again, metric or [], alpha, gate_pairs)
    path = out or calibrations.beside(from_run)
    calibrations.save(found, path)
    _show(found, path)


def _measure(
    experiment: str,
    arm: str | None,
    wanted: dict[str, Any],
    items: list[str],
    budget: str | None,
    folder: Path | None,
    dry_run: bool,
    metrics: list[str],
) -> Path:
    """Measure ``arm`` and its double; returns the measurement's folder. Exits if it was a dry run or interrupted."""
    from harness import gate as gates
    from harness.experiment.dotted import experiment_of
    from harness.experiment.plan import settle
    from harness.experiment.settings import given_settings, merge, read_experiment
    from harness.gate.alike import BudgetWatch
    from harness.gate.limits import check_requests

    settings = given_settings(items)
    for name in ("arms", "pairs", "bounds"):
        if name in settings:
            raise UsageError(f"--set {name} is set by the calibration itself; give --arm and --pairs instead")
    limit = gates.Budget(gates.parse_duration(budget)) if budget else None
    written = read_experiment(experiment)
    first = arm or merge(written).arms[0]
    settled = settle(experiment_of(written, settings, wanted, {"arms": [first, f"{first}@again"], "bounds": False}))
    unsure = check_requests(metrics, len(settled.data.prompts))
    if budget:
        refuse_a_budget_that_ends_before_vllm_starts(settled, budget, gates.parse_duration(budget))
    folder = new_folder(folder, f"calibrate-{Path(experiment).stem}")
    if dry_run:
        pairs = settled.experiment.pairs
        lines = [
            f"folder    {folder}",
            f"arms      {' and '.join(settled.arms)}",
            f"budget    {budget or 'none'}",
            f"requests  {2 * pairs * len(settled.data.prompts)} in {pairs} pairs of runs",
            *preflight(settled, folder, budget),
        ]
        print_plan([*lines, *peers_that_cannot_run(settled, folder), *unsure])
        raise typer.Exit
    try:
        if limit is None:
            measured(settled, folder, watch=BudgetWatch(None))
        else:
            with limit.enforced():
                measured(settled, folder, watch=BudgetWatch(limit))
    except KeyboardInterrupt:
        if limit is None or limit.left > 0:
            further = f"ttft compare --resume {folder}, then ttft calibrate --from {folder}"
            typer.echo(f"Interrupted; what was measured is kept. Resume it: {further}")
            raise typer.Exit(INTERRUPTED) from None
        if not has_requests(folder):
            raise UsageError(f"the budget of {budget} was over before the first request; give a larger one") from None
    if limit is not None:
        _require_enough(folder, str(budget))
    return folder


def _require_enough(folder: Path, budget: str) -> None:
    """Whether the budget held enough pairs; they are kept, and more can be added."""
    from harness.gate.calibration import LEAST
    from harness.results import load

    done = [int(entry["round"]) for entry in load(folder).meta["runs"] if entry["done"]]
    pairs = sum(done.count(pair) == 2 for pair in set(done))
    if pairs < LEAST:
        raise UsageError(
            f"the budget of {budget} was over after {pairs} pairs, and {LEAST} are needed; give a larger one, "
            f"or resume it: ttft compare --resume {folder}, then ttft calibrate --from {folder}"
        )


def _show(found: "Calibration", path: Path) -> None:
    terminal = console()
    terminal.print(f"{found.arm} against itself, {found.n_pairs} pairs of runs", markup=False, soft_wrap=True)
    terminal.print(_floors(found).to_terminal(titled=True))
    terminal.print(_false_alarms(found).to_terminal(titled=True))
    gates = found.alarms[0].rate.trials
    if gates < ENOUGH_GATES:
        few = f"- {gates} gates say little about a rate; give more --pairs, or smaller gates (--gate-pairs)"
        terminal.print(few, markup=False, soft_wrap=True)
    for text in found.warnings:
        terminal.print(f"- {text}", markup=False, soft_wrap=True)
    terminal.print(f"Wrote {path}; ttft gate consults it", markup=False, soft_wrap=True)


def _floors(found: "Calibration") -> "Table":
    """What to know about each metric. A margin holds if an unchanged arm passes in 9 of 10 gates."""
    from harness.core.table import Cell, Table

    head = ["metric", "noise of a pair", "bias (95%)", *(f"{size} pairs" for size in SHOWN)]
    rows = []
    for floor in found.floors:
        bias = Cell(f"{100 * floor.bias:+.1f}%", f"{100 * floor.bias_low:+.1f} to {100 * floor.bias_high:+.1f}%")
        margins = [Cell(f"{100 * floor.margins[size]:.1f}%" if size in floor.margins else "-") for size in SHOWN]
        rows.append([Cell(floor.metric), Cell(f"{100 * floor.noise:.1f}%"), bias, *margins])
    return Table("Smallest margin that a gate can hold", head, rows)


def _false_alarms(found: "Calibration") -> "Table":
    from harness.core.table import Cell, Table

    margins = list(dict.fromkeys(item.margin for item in found.alarms))
    caption = f"False alarms of gates of {found.alarms[0].pairs} pairs at these margins, with their 95% interval"
    rows = []
    for floor in found.floors:
        rates = [item.rate for item in found.alarms if item.metric == floor.metric]
        cells = [Cell(f"{one.events} of {one.trials}", f"{100 * one.low:.0f} to {100 * one.high:.0f}%") for one in rates]
        rows.append([Cell(floor.metric), *cells])
    return Table(caption, ["metric", *(f"{100 * margin:g}%" for margin in margins)], rows)
