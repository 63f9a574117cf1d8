"""The experiment's progress in the terminal, with an estimate of what is left."""

import time
from collections.abc import Callable
from types import TracebackType

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.experiment.hooks import Hooks, Watch

EVERY_S = 30.0
"""Without a terminal: seconds between two lines, so that the log of a job shows that it lives, and how long it will."""


class ProgressBar(Hooks):
    """One line for the stage; a bar once requests are timed. Without a terminal, a line on stderr now and then.

    ``clock`` gives seconds.
    """

    def __init__(self, console: Console, watch: Watch | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(watch)
        self._clock = clock
        self._total = self._count = 0
        self._began = self._told = 0.0
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=2,  # drawing takes time from the measured processes
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """A new stage begins."""
        self._console.print(f"  {escape(text)}", soft_wrap=True)

    def expect(self, requests: int) -> None:
        """That many timed requests will follow."""
        self.stage(f"measuring {requests} requests")
        self._task = self._bar.add_task("measuring", total=requests)
        self._total, self._count = requests, 0
        self._began = self._told = self._clock()

    def done(self, arm: str, ttft_s: float | None) -> None:
        """A timed request has finished."""
        if self._task is not None:
            self._bar.update(self._task, advance=1, description=escape(arm))
            self._count += 1
            if not self._console.is_terminal and self._clock() - self._told >= EVERY_S:
                self._line()

    def _line(self) -> None:
        self._told = self._clock()
        spent = self._told - self._began
        left = spent / self._count * max(self._total - self._count, 0)
        typer.echo(f"  {self._count} of {self._total} requests in {_minutes(spent)}, about {_minutes(left)} left", err=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
