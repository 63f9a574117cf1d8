"""Hooks that note what they are called with, for tests of several folders."""

from harness.experiment.hooks import Hooks


class Told(Hooks):
    """What a measurement told on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str] = []
        self.requests = 0
        self.times: list[tuple[str, float | None]] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def expect(self, requests: int) -> None:
        self.requests = requests

    def done(self, arm: str, ttft_s: float | None) -> None:
        self.times.append((arm, ttft_s))
