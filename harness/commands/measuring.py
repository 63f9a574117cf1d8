"""Running an experiment from the command line: the folder, the progress bar, and every way it can end."""

import contextlib
import shlex
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from harness.commands.preflight import Refused
from harness.commands.report import show
from harness.commands.terminal import console
from harness.core.budget import interrupt
from harness.core.errors import TtftError, UsageError

if TYPE_CHECKING:
    from harness.experiment.hooks import Watch
    from harness.experiment.plan import Setting
    from harness.experiment.record import Earlier

INTERRUPTED = 130


def new_folder(out: Path | None, name: str) -> Path:
    """A new results folder: ``out``, or one below results/ by time and name. Raises UsageError if it holds a measurement."""
    folder = out or Path("results") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    if (folder / "run.json").exists() or (folder / "requests.csv").exists():
        raise UsageError(f"{folder} already holds a measurement; give another --out, or resume it: --resume {folder}")
    return folder


def measured(setting: "Setting", folder: Path, earlier: "Earlier | None" = None, watch: "Watch | None" = None) -> dict[str, Any]:
    """Measure into ``folder`` and return run.json. Whatever ends it, what was measured is kept.

    Raises TtftError, and KeyboardInterrupt.
    """
    from harness.commands.progress_bar import ProgressBar
    from harness.experiment.at_peer import place_of
    from harness.experiment.conduct import measure
    from harness.experiment.lanes import peers
    from harness.experiment.record import NOTHING

    for arm in setting.peers:  # before anything starts; whatever a peer does later is a result
        arm.at(place_of(setting, folder)).check()
    end_as_by_ctrl_c()
    terminal = console()
    terminal.print(f"Measuring into {escape(str(folder))}", soft_wrap=True)
    fresh = not folder.exists()
    try:
        with ProgressBar(terminal, watch) as hooks:
            if setting.peers:
                return peers.measure(setting, folder, command_line(), hooks)
            return measure(setting, folder, command_line(), hooks, earlier or NOTHING)
    except TtftError:
        if fresh:
            _remove_if_bare(folder)
        raise


BARE = {"run.json", "requests.csv", "spans.jsonl", ".measuring.lock"}
"""What a measurement begins with. A log of vLLM's, or of a lane, may say why it failed, and stays."""


def _remove_if_bare(folder: Path) -> None:
    """Remove a folder that a refused target, or a setting, left without a single row."""
    files = list(folder.glob("*")) if folder.is_dir() else []
    if files and {file.name for file in files} <= BARE and not has_requests(folder):
        with contextlib.suppress(OSError):
            for file in files:
                file.unlink()
            folder.rmdir()


def refuse_a_budget_that_ends_before_vllm_starts(setting: "Setting", text: str, budget_s: float) -> None:
    """Raises UsageError, before anything starts. A target runs already."""
    from harness.experiment.sweep.estimate import START_S

    if not setting.experiment.target and budget_s <= START_S:
        raise UsageError(
            f"a budget of {text} ends before vLLM has started, for which {START_S:g} s are reckoned; give a larger one, as 10m"
        )


def peers_that_cannot_run(setting: "Setting", folder: Path) -> list[Refused]:
    """For a plan: a sentence for each peer that would be refused here. Starts nothing."""
    from harness.experiment.at_peer import place_of

    found = []
    for arm in setting.peers:
        try:
            arm.at(place_of(setting, folder)).check()
        except TtftError as error:
            found.append(Refused(error))
    return found


def end_as_by_ctrl_c() -> None:
    """SIGTERM raises KeyboardInterrupt: a job that is ended from outside (a time limit, a shutdown) cleans up as well."""
    signal.signal(signal.SIGTERM, interrupt)


def measured_and_shown(setting: "Setting", folder: Path, earlier: "Earlier | None" = None) -> dict[str, Any]:
    """Measure, then report whatever was measured, also after Ctrl-C (exit 130) or a failure."""
    try:
        meta = measured(setting, folder, earlier)
    except KeyboardInterrupt:
        show_if_any(folder)
        further = "A measurement with peers cannot be resumed." if setting.peers else f"Resume it: ttft compare --resume {folder}"
        console().print(f"Interrupted; what was measured is kept. {escape(further)}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except TtftError:
        show_if_any(folder)
        raise
    show(folder)
    return meta


def show_if_any(folder: Path) -> None:
    """Report a measurement that may have been cut off before its first request."""
    if has_requests(folder):
        show(folder)


def has_requests(folder: Path) -> bool:
    """Whether the folder holds a measurement with at least one row."""
    from harness.results import load

    return (folder / "run.json").exists() and len(load(folder, spans=False).requests) > 0


def command_line() -> str:
    """The command line, without secrets."""
    from harness.core.text import redact, without_secrets

    words = (without_secrets(redact(word) if "://" in word else word) for word in ["ttft", *sys.argv[1:]])
    return " ".join(map(shlex.quote, words))
