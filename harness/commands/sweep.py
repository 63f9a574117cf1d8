"""``ttft sweep``: an experiment over a grid of settings, and one table of all points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.measuring import INTERRUPTED, command_line, end_as_by_ctrl_c
from harness.commands.options import (
    Arms,
    CacheState,
    Concurrency,
    DryRun,
    Dtype,
    Model,
    Named,
    PageCache,
    Pairs,
    Settings,
    Store,
    Workload,
)
from harness.commands.preflight import folder_lines, print_plan, store_line
from harness.commands.terminal import console
from harness.core.errors import RunError, UsageError, VoidRuns

if TYPE_CHECKING:
    from harness.commands.progress_bar import ProgressBar
    from harness.experiment.sweep.planning import Plan
    from harness.experiment.sweep.state import State


def sweep(
    experiment: Named = "default",
    vary: Annotated[
        list[str] | None,
        typer.Option(help="KEY=V1,V2,..., such as concurrency=1,2,4 or chunkwise.pool=0,8; give several for a grid"),
    ] = None,
    arm: Arms = None,
    store: Store = None,
    workload: Workload = None,
    pairs: Pairs = None,
    cache_state: CacheState = None,
    page_cache: PageCache = None,
    concurrency: Concurrency = None,
    model: Model = None,
    dtype: Dtype = None,
    setting: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the sweep; must be new [default: results/<time>-sweep-<experiment>]")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="resume an interrupted sweep in this folder")] = None,
    report: Annotated[
        Path | None, typer.Option(help="measure nothing: write the table and pictures of this folder again")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Measure an experiment over a grid of settings: one table, maps, and where the lead changes."""
    from harness.experiment.dotted import experiment_of
    from harness.experiment.settings import given_settings, read_experiment
    from harness.experiment.sweep.axes import parse_axes
    from harness.experiment.sweep.grid import grid_of
    from harness.experiment.sweep.planning import plan_of
    from harness.experiment.sweep.state import State, read_state

    flags: dict[str, Any] = {"arms": arm or None, "workload": workload, "pairs": pairs, "model": model, "dtype": dtype}
    flags |= {"cache_state": cache_state, "page_cache": page_cache, "concurrency": concurrency}
    flags |= given_settings(setting or [])
    given = [name for name, value in {**flags, "vary": vary, "out": out}.items() if value is not None]
    if report is not None or resume is not None:
        folder = resume or report
        what = "--resume" if resume is not None else "--report"
        if given or (report is not None and (resume is not None or store or dry_run)):
            raise UsageError(f"{what} takes its settings from {folder}/sweep.json; remove {', '.join(given) or 'the others'}")
        state = read_state(folder, store)  # type: ignore[arg-type]
        if report is not None:
            _show(state)
            return
    else:
        chosen = experiment_of(read_experiment(experiment), flags, {"store": store})
        axes = parse_axes(vary or chosen.vary)
        _refuse_both({**flags, "store": store}, [axis.key for axis in axes])
        grid = grid_of(chosen, axes)
        state = State.new(_new_folder(out, Path(experiment).stem), experiment, command_line(), grid)
    plan = plan_of(state.grid)
    if dry_run:
        _print_plan(plan, state)
        return
    _measure(plan, state)


def _refuse_both(flags: dict[str, Any], keys: list[str]) -> None:
    inside = next((flag for flag, value in flags.items() if value is not None and flag.rpartition(".")[0] in keys), None)
    if inside is not None:
        owner = inside.rpartition(".")[0]
        raise UsageError(
            f"{owner} is varied as a whole, so --set {inside} would be lost; put it into each value of --vary {owner}"
        )
    both = next((key for key in keys if flags.get(key) is not None), None)
    if both is not None:
        raise UsageError(f"{both} is varied, so '{flags[both]}' cannot be set for all points as well; remove one of them")


def _new_folder(out: Path | None, name: str) -> Path:
    from datetime import datetime

    folder = out or Path("results") / f"{datetime.now():%Y%m%d-%H%M%S}-sweep-{name}"
    if any((folder / one).exists() for one in ("sweep.json", "run.json", "requests.csv")):
        raise UsageError(f"{folder} already holds results; give another --out, or resume a sweep: --resume {folder}")
    return folder


def _measure(plan: "Plan", state: "State") -> None:
    """Measure what is left, and write the outputs of whatever there is then."""
    from harness.experiment.record import held
    from harness.experiment.sweep.driver import check_earlier, measure_left
    from harness.experiment.sweep.state import left_of

    if not left_of(state):
        raise UsageError(f"{state.folder} has all of its points, so nothing is left to measure; "
                         f"read it with: ttft sweep --report {state.folder}")  # fmt: skip
    end_as_by_ctrl_c()
    try:
        with held(state.folder, command_line()):
            check_earlier(plan, state)
            console().print(f"Measuring into {state.folder}", markup=False, soft_wrap=True)
            measure_left(plan, state, state.command, _watched)
    except KeyboardInterrupt:
        if state.count("complete", "void"):
            _show(state)
        further = f"Interrupted; what was measured is kept. Resume it: ttft sweep --resume {state.folder}"
        console().print(further, markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    _show(state)
    _end(state)


def _watched(title: str) -> "ProgressBar":
    from harness.commands.progress_bar import ProgressBar

    terminal = console()
    terminal.print(title, markup=False, soft_wrap=True)
    return ProgressBar(terminal)


def _end(state: "State") -> None:
    """The exit code says whether all points count."""
    for status, kind, word in (("failed", RunError, "failed"), ("void", VoidRuns, "are void in part")):
        wrong = [point for point in state.grid.points if state.of(point.number).status == status]
        if wrong:
            first = f"the first ({wrong[0].text}): {state.of(wrong[0].number).reason}"
            again = f"; measure these again with: ttft sweep --resume {state.folder}" if status == "failed" else ""
            raise kind(f"{len(wrong)} of {len(state.grid.points)} points {word}, {first}{again}")


def _show(state: "State") -> None:
    from harness.reporting.sweep.outputs import write_outputs

    outputs = write_outputs(state)
    terminal = console()
    terminal.print(outputs.table.to_terminal())
    for line in outputs.lines:
        terminal.print(line, markup=False, soft_wrap=True)
    names = ", ".join(dict.fromkeys(file.relative_to(state.folder).parts[0] for file in outputs.files))
    terminal.print(f"Wrote {len(outputs.files)} files below {state.folder}: {names}", markup=False, soft_wrap=True)


def _print_plan(plan: "Plan", state: "State") -> None:
    from harness.experiment.sweep.estimate import estimate
    from harness.experiment.sweep.planning import by_store
    from harness.experiment.sweep.state import left_of

    left = left_of(state)
    lines = [
        f"folder    {state.folder}",
        f"vary      {' and '.join(axis.text for axis in state.grid.axes)}",
        f"points    {len(plan.points)}" + (f", {len(left)} of them left" if len(left) < len(plan.points) else ""),
        f"arms      {len(plan.points[0].arms)}: " + ", ".join(plan.points[0].arms),
        f"starts    {by_store(plan.starts)}",
        f"runs      {sum(planned.runs for planned in plan.points)}",
        f"requests  {sum(planned.requests for planned in plan.points)}",
        f"time      {estimate(plan, state).text}",
    ]
    for planned in plan.points:
        lines.append(f"{planned.point.number:>6}    {planned.point.text}: {planned.runs} runs of {planned.prompts} prompts")
        lines += [f"          {note}" for note in planned.notes]
    stores = dict.fromkeys(planned.point.experiment.store for planned in plan.points if planned.point.number in left)
    print_plan([*lines, *dict.fromkeys(store_line(url) for url in stores), *folder_lines(state.folder)])
