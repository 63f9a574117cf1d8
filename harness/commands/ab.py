"""``ttft ab``: two versions of a package in turns, and a verdict on the newer one."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from harness.commands.measuring import INTERRUPTED, command_line, end_as_by_ctrl_c, new_folder, show_if_any
from harness.commands.options import DryRun, Named, Pairs, Settings, Store, Workload
from harness.commands.terminal import console
from harness.commands.verdicts import publish
from harness.core.errors import TtftError, UsageError
from harness.core.text import slug

if TYPE_CHECKING:
    from harness.experiment.lanes.versions import Version
    from harness.experiment.settings import Experiment
    from harness.gate.calibration import Calibration


def ab(
    experiment: Named = "default",
    base: Annotated[str | None, typer.Option(help="git ref of the older version, e.g. origin/main")] = None,
    head: Annotated[str | None, typer.Option(help="git ref of the newer version [default: the working tree as it is]")] = None,
    repo: Annotated[Path, typer.Option(help="folder of the package in its git repository")] = Path(),
    base_path: Annotated[Path | None, typer.Option(help="a folder instead of --base")] = None,
    head_path: Annotated[Path | None, typer.Option(help="a folder instead of --head")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="engine spec, judged head against base; give several")] = None,
    margin: Annotated[
        list[str] | None, typer.Option("--max", help="METRIC:PERCENT that head may be slower by, e.g. p50:5%")
    ] = None,
    alpha: Annotated[float, typer.Option(help="error rate of each bound; several arms share it")] = 0.05,
    store: Store = None,
    workload: Workload = None,
    pairs: Pairs = None,
    setting: Settings = None,
    calibration: Annotated[
        Path | None, typer.Option(help="what `ttft calibrate` saved [default: calibration.json beside the results folder]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="judge margins below the noise floor anyway")] = False,
    out: Annotated[Path | None, typer.Option(help="results folder; must be new [default: results/<time>-ab]")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="seconds without a message after which a version counts as hung")] = 900.0,
    dry_run: DryRun = False,
) -> None:
    """Measure two versions of a package in turns and judge: PASS (exit 0), FAIL (1), INCONCLUSIVE (3); 2 or 4: no verdict."""
    from harness.experiment.dotted import experiment_of
    from harness.experiment.lanes.ab import BASE, HEAD
    from harness.experiment.lanes.versions import resolve
    from harness.experiment.settings import given_settings, read_experiment
    from harness.gate import parse_margins
    from harness.gate.calibration import consulted
    from harness.gate.judge import check_rate

    if base is None and base_path is None:
        raise UsageError("name the older version: --base GITREF, or --base-path FOLDER")
    margins = parse_margins(margin or [])
    check_rate(alpha)
    flags: dict[str, Any] = {"arms": arm or None, "store": store, "workload": workload, "pairs": pairs}
    # The bounds say how good an engine is; here the question is whether it got worse.
    settings = experiment_of(read_experiment(experiment), {"bounds": False}, flags, given_settings(setting or []))
    if settings.target:
        raise UsageError("ttft ab starts vLLM itself, each version with its own code; remove target")
    versions = [resolve(BASE, repo, base, base_path), resolve(HEAD, repo, head, head_path)]
    folder = new_folder(out, "ab")
    floors = consulted(calibration, folder)
    if dry_run:
        _print_plan(versions, settings, folder)
        return
    _measure(versions, settings, folder, timeout)
    _judge(folder, settings.arms, margins, alpha, floors, force)


def _print_plan(versions: "Sequence[Version]", experiment: "Experiment", folder: Path) -> None:
    from harness.experiment.lanes.combine import arm_of

    names = [version.name for version in versions]
    first = [arm_of(arm, name) for arm in experiment.arms for name in names]
    lines = [
        f"folder    {folder}",
        *(f"{version.name:<9} {version.what}, of {version.folder}" for version in versions),
        f"workload  {experiment.workload}",
        f"runs      {len(first) * experiment.pairs} in {experiment.pairs} rounds: {' '.join(first)}, then backwards, ...",
    ]
    for line in lines:
        typer.echo(line)


def _measure(versions: "Sequence[Version]", experiment: "Experiment", folder: Path, timeout: float) -> None:
    """Install both versions and measure them; what was measured is shown in any case. Raises TtftError; Ctrl-C exits with 130."""
    from harness.commands.progress_bar import ProgressBar
    from harness.experiment.lanes.ab import measure
    from harness.experiment.lanes.environment import prepare

    end_as_by_ctrl_c()
    terminal = console()
    terminal.print(f"Measuring into {escape(str(folder))}", soft_wrap=True)
    try:
        with tempfile.TemporaryDirectory(prefix="ttft-ab-") as workplace, ProgressBar(terminal) as progress:
            programs = {}
            for version in versions:
                progress.stage(f"{version.name}: installing {version.what}")
                programs[version.name] = prepare(version, Path(workplace), folder / version.name / "install.log")
            if len({program.source["digest"] for program in programs.values()}) == 1:
                progress.stage("note: base and head are the same code, so this shows the noise")
            measure(programs, experiment, folder, command_line(), progress, timeout)
    except KeyboardInterrupt:
        show_if_any(folder)
        typer.echo(f"Interrupted; what was measured is kept in {folder}, but there is no verdict")
        raise typer.Exit(INTERRUPTED) from None
    except TtftError:
        show_if_any(folder)
        raise
    show_if_any(folder)


def _judge(
    folder: Path,
    arms: list[str],
    margins: Mapping[str, float],
    alpha: float,
    calibration: "Calibration | None",
    force: bool,
) -> None:
    """Publish one verdict per arm, and exit with the gravest one's code."""
    from harness.experiment.lanes.ab import gravest, judge
    from harness.results import load

    verdicts = judge(load(folder, spans=False), arms, margins, alpha, calibration, force)
    for arm, verdict in zip(arms, verdicts, strict=True):
        publish(verdict, folder, "" if len(arms) == 1 else f"-{slug(arm)}")
    raise typer.Exit(gravest(verdicts).exit_code)
