"""When a planned run may begin: at once, or when somebody who measures other things in between says so."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from harness.experiment.order import PlannedRun


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
