"""What an experiment calls while it runs: to show progress, to give runs their turns, to end between two rounds."""

from collections.abc import Mapping
from typing import Any, Protocol

from harness.experiment.cache_state import PlannedRun


class Watch(Protocol):
    """May end a measurement early, by a rule that stands in run.json before the first request."""

    @property
    def declared(self) -> Mapping[str, Any]:
        """Entries of run.json."""

    @property
    def needs_all(self) -> bool:
        """Whether nothing is left to find out once one arm has failed."""

    def after_round(self, rounds: int) -> str | None:
        """Called when ``rounds`` rounds are on disk: why no more are measured, or None to go on."""


class Hooks:
    """What a measurement calls while it runs; override what you need, the rest does nothing."""

    def __init__(self, watch: Watch | None = None) -> None:
        self.watch = watch

    def stage(self, text: str) -> None:
        """A new stage begins, in a few words."""

    def expect(self, requests: int) -> None:
        """That many timed requests will follow."""

    def done(self, arm: str, ttft_s: float | None) -> None:
        """A timed request has finished."""

    async def turn(self, run: PlannedRun) -> None:
        """Returns when the run may begin; all runs before it are on disk."""

    async def over(self) -> None:
        """All runs are on disk; vLLM stops when this returns."""

    @property
    def declared(self) -> Mapping[str, Any]:
        """Entries of run.json that are declared before the first request."""
        return self.watch.declared if self.watch else {}

    @property
    def needs_all(self) -> bool:
        """Whether nothing is left to find out once one arm has failed."""
        return self.watch is not None and self.watch.needs_all

    def after_round(self, rounds: int) -> str | None:
        """Why no more than these ``rounds`` are measured; None to go on."""
        return self.watch.after_round(rounds) if self.watch else None
