"""The experiment's progress in the terminal, with an estimate of what is left."""

from types import TracebackType

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


class ProgressBar(Hooks):
    """One line for the stage; a bar once requests are timed. Without a terminal it prints the stages only."""

    def __init__(self, console: Console, watch: Watch | None = None) -> None:
        super().__init__(watch)
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

    def done(self, arm: str, ttft_s: float | None) -> None:
        """A timed request has finished."""
        if self._task is not None:
            self._bar.update(self._task, advance=1, description=escape(arm))
