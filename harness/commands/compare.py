"""``ttft compare``: measure an experiment, then report whatever was measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.measuring import command_line, measured_and_shown, new_folder, peers_that_cannot_run
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
    SpanLog,
    Store,
    Target,
    Workload,
)
from harness.commands.preflight import preflight, print_plan
from harness.core.errors import SetupError, UsageError, VoidRuns
from harness.replay.target_url import check_url

if TYPE_CHECKING:
    from harness.experiment.plan import Setting
    from harness.experiment.record import Earlier
    from harness.experiment.settings import Experiment
    from harness.results import Measurement

NOT_RESUMED = {
    ("plan",): "by `ttft gate --run`, whose plan says when to stop",
    ("lanes", "sides"): "by `ttft ab`, each version by its own code",
    ("peers",): "with peers, each in a vLLM of its own",
}
"""By entries of run.json: which command made such a measurement. ``sides`` is what older versions wrote."""


def compare(
    experiment: Named = "default",
    arm: Arms = None,
    store: Store = None,
    workload: Workload = None,
    pairs: Pairs = None,
    cache_state: CacheState = None,
    page_cache: PageCache = None,
    concurrency: Concurrency = None,
    model: Model = None,
    dtype: Dtype = None,
    bounds: Annotated[bool | None, typer.Option("--bounds/--no-bounds", help="measure floor and recompute as well")] = None,
    target: Target = None,
    span_log: SpanLog = None,
    setting: Settings = None,
    out: Annotated[Path | None, typer.Option(help="results folder; must be new [default: results/<time>-<experiment>]")] = None,
    resume: Annotated[Path | None, typer.Option(help="resume an interrupted measurement in this folder")] = None,
    dry_run: DryRun = False,
) -> None:
    """Compare engines: prime a store, prove correctness, replay prompts in turns, report TTFT."""
    from harness.experiment.dotted import experiment_of
    from harness.experiment.plan import settle
    from harness.experiment.settings import given_settings, read_experiment

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
        "target": target,
        "target_span_log": str(span_log) if span_log is not None else None,
        **given_settings(setting or []),
    }
    if resume is not None:
        _resume(resume, flags, out)
        return
    settled = settle(_as_it_is(experiment_of(read_experiment(experiment), flags), flags))
    folder = new_folder(out, Path(experiment).stem)
    if dry_run:
        _print_plan(settled, folder)
        return
    _measure(settled, folder)


def _as_it_is(experiment: "Experiment", flags: dict[str, Any]) -> "Experiment":
    """With the target as the one arm, if it has no connector of ours and nobody asked for arms."""
    from harness.experiment.at_targets import has_no_connector
    from harness.experiment.target_arm import NAME

    if not experiment.target or any(flags.get(name) is not None for name in ("arms", "target_span_log")):
        return experiment
    url = check_url(experiment.target)
    try:
        if not has_no_connector(url, experiment.target_ca):
            return experiment
    except SetupError:  # it will be said where the measurement begins, if that is meant to begin
        return experiment
    arm = f"{NAME}:{url}"
    typer.echo(f"The server at {url} has no connector of ours, so it is measured as it is: --arm {arm}")
    return experiment.model_copy(update={"arms": [arm], "target": ""})


def _resume(folder: Path, flags: dict[str, Any], out: Path | None) -> None:
    from harness.experiment.record import held
    from harness.results import load

    given = [name for name, value in flags.items() if value is not None and name != "store"]
    if given or out is not None:
        raise UsageError(f"--resume takes its settings from {folder / 'run.json'}; remove {', '.join(given) or '--out'}")
    if not (folder / "run.json").exists():
        load(folder)  # raises, naming what is missing
    with held(folder, command_line()):
        _go_on(load(folder), flags["store"])


def _go_on(measurement: "Measurement", store: str | None) -> None:
    from harness.experiment.plan import settle
    from harness.experiment.record import earlier_of
    from harness.experiment.settings import Experiment, merge

    folder, meta = measurement.path, measurement.meta
    for entries, how in NOT_RESUMED.items():
        if any(entry in meta for entry in entries):
            raise UsageError(f"{folder} was measured {how}; begin a new one instead")
    config = meta.get("config")
    if not isinstance(config, dict):
        raise UsageError(f"{folder / 'run.json'} holds no settings, so it cannot be resumed; begin a new one")
    known = {key: value for key, value in config.items() if key in Experiment.model_fields}
    setting = settle(merge(known, {"store": store}))
    earlier = earlier_of(measurement, setting)
    if not earlier.left_of(setting.planned_runs):
        raise UsageError(f"{folder} has all of its runs, so nothing is left to measure; read it with: ttft report {folder}")
    _measure(setting, folder, earlier)


def _measure(setting: "Setting", folder: Path, earlier: "Earlier | None" = None) -> None:
    meta = measured_and_shown(setting, folder, earlier)
    peers = [arm.name for arm in setting.peers]
    void = [entry for entry in meta["void_runs"] if entry["arm"] not in peers]  # a peer's failure is a result
    if void:
        first, count = void[0], len({entry["run"] for entry in void})
        raise VoidRuns(
            f"{'1 run is' if count == 1 else f'{count} runs are'} void, the first (run {first['run']}, arm {first['arm']}): "
            f"{first['reason']}; the void_runs of {folder / 'run.json'} name them all"
        )


def _print_plan(setting: "Setting", folder: Path) -> None:
    experiment, plan = setting.experiment, setting.planned_runs
    lengths = sorted(len(prompt.tokens) for prompt in setting.data.prompts)
    lines = [
        f"folder    {folder}",
        f"model     {setting.model.name} in {setting.dtype}, up to {setting.max_model_len} tokens",
        f"prompts   {len(lengths)} of {lengths[0]} to {lengths[-1]} tokens, {sum(setting.hits)} of {sum(lengths)} tokens hit",
        f"priming   {setting.primed_chunks} chunks of {experiment.chunk_tokens} tokens",
        f"runs      {len(plan)}: " + " ".join(f"{run.round}:{run.arm}" for run in plan[: 2 * len(setting.arms)]) + " ...",
        f"requests  {len(plan) * len(lengths)}",
        *preflight(setting, folder),
        *peers_that_cannot_run(setting, folder),
        *setting.notes,
    ]
    print_plan(lines)
