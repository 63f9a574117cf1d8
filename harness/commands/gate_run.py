"""``ttft gate --run``: measure two arms and judge them in one job, by a plan declared before the first request."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.commands.measuring import (
    INTERRUPTED,
    has_requests,
    measured,
    new_folder,
    peers_that_cannot_run,
    refuse_a_budget_that_ends_before_vllm_starts,
    show_if_any,
)
from harness.commands.preflight import preflight, print_plan
from harness.core.errors import TtftError, UsageError
from harness.core.findings import counted

if TYPE_CHECKING:
    from harness.experiment.plan import Setting
    from harness.gate import Budget, PlanWatch, Verdict
    from harness.results import Measurement
    from harness.stats import Plan


@dataclass(frozen=True, slots=True)
class PlanFlags:
    """The plan as given on the command line; None if it was not given."""

    pairs: int | None
    looks: str | None
    spending: str | None
    budget: str | None


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged and by what: the arms, the margins (0.05 is 5%) and the limits in seconds, by metric."""

    candidate: str
    base: str
    margins: Mapping[str, float]
    limits: Mapping[str, float]
    alpha: float
    calibration: Path | None
    force: bool


DEFAULT_PAIRS = 40


def measure_and_judge(
    experiment: str,
    settings: Mapping[str, Any],
    judged: Judged,
    flags: PlanFlags,
    out: Path | None,
    dry_run: bool = False,
) -> tuple["Verdict", Path]:
    """The verdict and the folder of its measurement.

    ``settings`` override the experiment's; its arms are those of ``judged``. Raises UsageError before anything is
    measured if the plan or the arms are invalid or a run has too few requests for a metric, and TtftError if the
    measurement fails before there is anything to judge.
    Ctrl-C exits with 130, without a verdict; ``dry_run`` prints the plan and exits.
    """
    from harness import gate as gates
    from harness.experiment.dotted import experiment_of
    from harness.experiment.plan import settle
    from harness.experiment.settings import read_experiment
    from harness.gate.calibration import consulted
    from harness.gate.limits import check_requests
    from harness.results import load

    for name in ("arms", "pairs", "bounds"):
        if name in settings:
            raise UsageError(f"--set {name} is set by the gate itself; give --candidate, --base and --pairs instead")
    plan = _plan(flags, judged.alpha)
    budget = gates.Budget(gates.parse_duration(flags.budget)) if flags.budget else None
    only = {"arms": [judged.base, judged.candidate], "bounds": False, "pairs": plan.looks[-1]}
    settled = settle(experiment_of(read_experiment(experiment), settings, only))
    base, candidate = settled.arms  # a server's name is not what selects it
    _refuse_arms_that_change(settled)
    unsure = check_requests([*judged.margins, *judged.limits], len(settled.data.prompts))
    if flags.budget:
        refuse_a_budget_that_ends_before_vllm_starts(settled, flags.budget, gates.parse_duration(flags.budget))
    folder = new_folder(out, f"gate-{Path(experiment).stem}")
    floors = consulted(judged.calibration, folder)
    if dry_run:
        _print_plan(plan, flags.budget, settled, folder, unsure)
        raise typer.Exit

    def judge(measurement: "Measurement", plan: "Plan") -> "Verdict":
        return gates.judge_by_plan(measurement, candidate, base, judged.margins, plan, floors, judged.force, judged.limits)

    for line in unsure:
        typer.echo(line)
    watch = gates.PlanWatch(folder, plan, judge, budget)
    try:
        _measured(settled, folder, watch, budget)
    except KeyboardInterrupt:
        show_if_any(folder)
        if budget is None or budget.left > 0:
            typer.echo(f"Interrupted; what was measured is kept in {folder}, but there is no verdict")
            raise typer.Exit(INTERRUPTED) from None
        if not has_requests(folder):
            raise UsageError(f"the budget of {flags.budget} was over before the first request; give a larger one") from None
    except TtftError:
        show_if_any(folder)
        raise
    else:
        show_if_any(folder)
    return judge(load(folder, spans=False), plan), folder


def _refuse_arms_that_change(settled: "Setting") -> None:
    """A gate compares arms that do the same in every run: they have learned before the first, and explore only if told to."""
    from harness.connector.settings import Arm

    for arm in settled.arms.values():
        if not isinstance(arm, Arm):
            continue
        if (share := arm.engine.explores(arm.options)) and "explore" not in arm.options.model_fields_set:
            raise UsageError(
                f"{arm.name} tries other ways in {share:.0%} of its loads, so a gate's runs would differ; "
                f"write {arm.engine.name}:explore=0, or explore={share:g} if the gate is to judge that too"
            )
        if (loads := arm.engine.learns(arm.options)) > settled.experiment.warmup:
            raise UsageError(
                f"{arm.name} learns by its first {counted(loads, 'load')}, and warmup={settled.experiment.warmup} leaves some of "
                f"them in a gate's runs; give --set warmup={loads}"
            )


def _measured(settled: "Setting", folder: Path, watch: "PlanWatch", budget: "Budget | None") -> None:
    if budget is None:
        measured(settled, folder, watch=watch)
        return
    with budget.enforced():
        measured(settled, folder, watch=watch)


def _print_plan(plan: "Plan", budget: str | None, settled: "Setting", folder: Path, unsure: list[str]) -> None:
    levels = ", ".join(f"{look} ({100 * level:.2g}%)" for look, level in zip(plan.looks, plan.levels(), strict=True))
    base, candidate = settled.arms
    requests = 2 * len(settled.data.prompts)
    lines = [
        f"folder    {folder}",
        f"arms      {candidate} against {base}",
        f"looks     at these numbers of pairs, each with its one-sided error rate: {levels}",
        f"in all    {100 * plan.alpha:g}%, spent by {plan.spending}",
        f"budget    {budget or 'none'}",
        f"requests  {requests} per pair, at most {requests * plan.looks[-1]}",
        *preflight(settled, folder, budget),
        *peers_that_cannot_run(settled, folder),
        *settled.notes,
        *unsure,
    ]
    print_plan(lines)


def _plan(flags: PlanFlags, alpha: float) -> "Plan":
    from harness.gate import default_looks
    from harness.stats import Plan

    spending: Any = flags.spending or "pocock"
    if flags.looks is None:
        return Plan(default_looks(flags.pairs or DEFAULT_PAIRS), alpha, spending)
    if flags.pairs is not None:
        raise UsageError("--looks says how many pairs there are at most; remove --pairs")
    try:
        looks = tuple(int(look) for look in flags.looks.split(","))
    except ValueError:
        raise UsageError(f"--looks {flags.looks} is not a list of numbers of pairs; write for example --looks 8,12,18") from None
    return Plan(looks, alpha, spending)
