"""``ttft gate``: a verdict on stored results, or on an experiment that it measures itself."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.gate_files import foreign_files, judge_foreign
from harness.commands.gate_run import Judged, PlanFlags, measure_and_judge
from harness.commands.options import CacheState, Concurrency, Dtype, Json, Model, PageCache, SpanLog, Target
from harness.commands.terminal import only_json
from harness.commands.verdicts import publish
from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.gate import Verdict

FLAGS = {"target_span_log": "--span-log"}
"""Settings that a flag of another name gives."""


def gate(
    run: Annotated[
        Path | None, typer.Argument(help="a measurement's folder, or another tool's result file; with a second one, the base")
    ] = None,
    other: Annotated[Path | None, typer.Argument(help="a second measurement, of the same environment: the candidate")] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option("--max", help="METRIC:PERCENT that it may be slower by, as p50:5%, or METRIC:TIME at most, as p95:800ms"),
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(help="the arm to judge, or result files of another tool, as 'new*.json'")
    ] = None,
    base: Annotated[str | None, typer.Option(help="what to compare it with")] = None,
    relative_to: Annotated[
        str | None, typer.Option(help="with two measurements: a control arm that both have; then the machines may differ")
    ] = None,
    alpha: Annotated[float, typer.Option(help="error rate of each bound")] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="folder for verdict.json, verdict.md, junit.xml; with --run for the measurement as well")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="what `ttft calibrate` saved [default: calibration.json beside the measurement's folder]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="judge margins below the noise floor anyway")] = False,
    history: Annotated[Path | None, typer.Option(help="append the verdict to this .csv or .parquet file (ttft trend)")] = None,
    label: Annotated[
        str | None, typer.Option(help="commit for the history [default: GITHUB_SHA or CI_COMMIT_SHA, if set]")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--run", help="measure this experiment (a name or a TOML file) and judge it by a plan")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="with --run: end within this time, such as 10m or 90s")] = None,
    pairs: Annotated[int | None, typer.Option(help="with --run: pairs at most, with looks at 8, 12, 18, 27, ... [40]")] = None,
    looks: Annotated[str | None, typer.Option(help="with --run: judge at these numbers of pairs, such as 8,12,18")] = None,
    spending: Annotated[str | None, typer.Option(help="with --run: pocock (stops early) or obrien-fleming [pocock]")] = None,
    store: Annotated[str | None, typer.Option(help="with --run: URL of the store")] = None,
    workload: Annotated[str | None, typer.Option(help="with --run: workload spec")] = None,
    cache_state: CacheState = None,
    page_cache: PageCache = None,
    concurrency: Concurrency = None,
    model: Model = None,
    dtype: Dtype = None,
    target: Target = None,
    span_log: SpanLog = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="with --run: any other setting, KEY=VALUE, also workload.OPTION=VALUE")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="with --run: print the plan and stop")] = False,
    as_json: Json = False,
    *,
    context: typer.Context,
) -> None:
    """Judge results: PASS (exit 0), FAIL (1), no verdict possible (2), INCONCLUSIVE (3)."""
    from harness import gate as gates
    from harness.experiment.settings import given_settings
    from harness.gate import history as histories
    from harness.gate.limits import parse_bounds
    from harness.results import load

    answer = context.with_resource(only_json(as_json))
    specs, limits = parse_bounds(margin or [])
    margins = gates.parse_margins(specs) if specs or not limits else {}
    if history is not None:
        if not margins:
            raise UsageError("a history keeps ratios, which travel between machines; give a margin as well, as --max p50:5%")
        histories.check(history)  # before a long measurement, not after it
    plan = PlanFlags(pairs, looks, spending, budget)
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
    if experiment is None:
        flags = {**asdict(plan), **wanted, "set": setting or None, "dry_run": dry_run or None}
        given = [name for name, value in flags.items() if value is not None]
        if given:
            names = ", ".join(FLAGS.get(name, f"--{name.replace('_', '-')}") for name in given)
            raise UsageError(
                f"{names}: these belong to --run EXPERIMENT, which measures; a stored measurement is judged as it is"
            )
        if (sides := foreign_files(run, other, base, candidate)) is not None:
            if relative_to is not None or calibration is not None or history is not None or force:
                raise UsageError("--relative-to, --calibration, --force and --history need measurements of ttft; remove them")
            verdict, folder = judge_foreign(*sides, margins, alpha, limits), None
        else:
            verdict = _stored(run, other, margins, limits, candidate, base, relative_to, alpha, calibration, force)
            folder = other or run
    else:
        if run is not None or relative_to is not None:
            raise UsageError("--run measures again; remove the stored measurements and --relative-to")
        candidate, base = _arms(candidate, base)
        judged = Judged(candidate, base, margins, limits, alpha, calibration, force)
        verdict, folder = measure_and_judge(experiment, wanted | given_settings(setting or []), judged, plan, out, dry_run)
        out = folder
    answer(verdict.to_json())
    publish(verdict, out)  # first: a history that cannot be written must not lose the verdict
    if history is not None and folder is not None:
        histories.append(history, histories.rows_of(verdict, margins, load(folder, spans=False), label))
    raise typer.Exit(verdict.exit_code)


def _stored(
    run: Path | None,
    other: Path | None,
    margins: dict[str, float],
    limits: dict[str, float],
    candidate: str | None,
    base: str | None,
    relative_to: str | None,
    alpha: float,
    calibration: Path | None,
    force: bool,
) -> "Verdict":
    from harness import gate as gates
    from harness.gate.calibration import consulted
    from harness.results import load

    if run is None:
        raise UsageError("name a measurement's folder to judge, or measure one with --run EXPERIMENT")
    floors = consulted(calibration, other or run)
    if other is not None:
        both = load(run, spans=False), load(other, spans=False)
        return gates.judge_runs(*both, margins, base, candidate, alpha, relative_to, floors, force, limits)
    if relative_to is not None:
        raise UsageError("--relative-to needs two measurements; give the candidate's folder as well")
    candidate, base = _arms(candidate, base)
    found = load(run, spans=False)
    plan = gates.plan_of(found.meta)
    if plan is None:
        return gates.judge_run(found, candidate, base, margins, alpha, floors, force, limits=limits)
    return gates.judge_by_plan(found, candidate, base, margins, plan, floors, force, limits)


def _arms(candidate: str | None, base: str | None) -> tuple[str, str]:
    if candidate is None or base is None:
        raise UsageError("to judge one measurement, name its arms: --candidate ARM --base ARM")
    return candidate, base
