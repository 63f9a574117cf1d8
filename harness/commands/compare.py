"""``ttft compare``: measure an experiment, then report whatever was measured."""

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.commands.measuring import measured_and_shown, new_folder, peers_that_cannot_run
from harness.core.errors import UsageError, VoidRuns


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
    target: Annotated[
        str | None, typer.Option(help="http://HOST:PORT of a running vLLM (ttft serve); its key is the variable TTFT_API_KEY")
    ] = None,
    span_log: Annotated[Path | None, typer.Option(help="folder of the target's span log, if it is not found by itself")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="any other setting, KEY=VALUE, also workload.OPTION=VALUE (ttft list settings)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; must be new [default: results/<time>-<experiment>]")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with an interrupted run in this folder")] = None,
    dry_run: Annotated[bool, typer.Option(help="print the plan and stop")] = False,
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
    settled = settle(experiment_of(read_experiment(experiment), flags))
    folder = new_folder(out, Path(experiment).stem)
    if dry_run:
        _print_plan(settled, folder)
        return
    _measure(settled, folder)


def _resume(folder: Path, flags: dict[str, Any], out: Path | None) -> None:
    from harness.experiment.plan import settle
    from harness.experiment.record import earlier_of
    from harness.experiment.settings import Experiment, merge
    from harness.results import load

    given = [name for name, value in flags.items() if value is not None and name != "store"]
    if given or out is not None:
        raise UsageError(f"--resume takes its settings from {folder / 'run.json'}; leave out {', '.join(given) or '--out'}")
    run = load(folder)
    if "plan" in run.meta:
        raise UsageError(f"{folder} was measured by `ttft gate --run`, whose plan says when to stop; begin a new run instead")
    if "sides" in run.meta:
        raise UsageError(f"{folder} was measured by `ttft ab`, each side by its own code; begin a new run instead")
    if "peers" in run.meta:
        raise UsageError(f"{folder} was measured with peers, each in a vLLM of its own; begin a new run instead")
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
    from harness.experiment.cache_state import schedule
    from harness.experiment.plan import RECOMPUTE

    experiment = settled.experiment
    return schedule(list(settled.arms), experiment.pairs, [RECOMPUTE], experiment.recompute_rounds)


def _measure(settled: Any, folder: Path, earlier: Any = None) -> None:
    meta = measured_and_shown(settled, folder, earlier)
    peers = [arm.name for arm in settled.peers]
    void = [entry for entry in meta["void_runs"] if entry["arm"] not in peers]  # a peer's failure is a result
    if void:
        first = void[0]
        raise VoidRuns(f"{len({entry['run'] for entry in void})} runs are void, the first (run {first['run']}, "
                       f"arm {first['arm']}): {first['reason']}")  # fmt: skip


def _print_plan(settled: Any, folder: Path) -> None:
    experiment, plan = settled.experiment, _plan(settled)
    lengths = sorted(len(prompt.tokens) for prompt in settled.data.prompts)
    lines = [
        f"folder    {folder}",
        f"model     {settled.model.name} in {settled.dtype}, up to {settled.max_model_len} tokens",
        f"prompts   {len(lengths)} of {lengths[0]} to {lengths[-1]} tokens, {sum(settled.hits)} of {sum(lengths)} tokens hit",
        f"priming   {settled.primed_chunks} chunks of {experiment.chunk_tokens} tokens",
        f"runs      {len(plan)}: " + " ".join(f"{run.round}:{run.arm}" for run in plan[: 2 * len(settled.arms)]) + " ...",
        f"requests  {len(plan) * len(lengths)}",
        *peers_that_cannot_run(settled, folder),
        *settled.notes,
    ]
    for line in lines:
        typer.echo(line)
