"""Somebody who looks on while an experiment runs, and may end it between two rounds."""

from collections.abc import Mapping
from typing import Any, Protocol


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
