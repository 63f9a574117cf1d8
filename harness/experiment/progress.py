"""What the experiment tells whoever watches it."""

from typing import Protocol


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
