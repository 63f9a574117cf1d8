"""Who looks on while an experiment runs: told of its progress, asked for turns, free to end it between two rounds."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

from harness.experiment.cache_state import PlannedRun


class Progress(Protocol):
    """A progress bar, or a stand-in."""

    def stage(self, text: str) -> None:
        """A new stage begins, in a few words."""

    def expect(self, requests: int) -> None:
        """That many timed requests will follow."""

    def done(self, arm: str, ttft_s: float | None) -> None:
        """A timed request has finished."""


class Silent:
    """Tells nobody."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def expect(self, requests: int) -> None:
        """Nothing."""

    def done(self, arm: str, ttft_s: float | None) -> None:
        """Nothing."""


class Turns(Protocol):
    """Gives the planned runs out, one by one."""

    def of(self, runs: Iterable[PlannedRun]) -> AsyncIterator[PlannedRun]:
        """Each run when its turn has come. Asked for the next one, the one before is on disk."""

    async def over(self) -> None:
        """All runs are on disk; vLLM stops when this returns."""


class AtOnce:
    """No run waits."""

    async def of(self, runs: Iterable[PlannedRun]) -> AsyncIterator[PlannedRun]:
        """One after the other."""
        for run in runs:
            yield run

    async def over(self) -> None:
        """Nothing to wait for."""


class Watch(Protocol):
    """``declared`` stands in run.json before the first request, so that what ends a run early was laid down before it."""

    @property
    def declared(self) -> Mapping[str, Any]:
        """Entries of run.json."""

    @property
    def needs_all(self) -> bool:
        """Whether nothing is left to find out once one arm has failed."""

    def after_round(self, rounds: int) -> str | None:
        """Called when ``rounds`` rounds are on disk: why no more are to be measured, or None to go on."""


class NoWatch:
    """Measures all rounds."""

    needs_all = False

    @property
    def declared(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def after_round(self, rounds: int) -> str | None:
        """Go on."""
        return None
