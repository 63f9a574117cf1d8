"""Whoever watches a measurement, for tests of several folders."""

from dataclasses import dataclass, field


@dataclass
class Told:
    """What the driver tells whoever watches it."""

    stages: list[str] = field(default_factory=list)
    requests: int = 0
    times: list[tuple[str, float | None]] = field(default_factory=list)

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def expect(self, requests: int) -> None:
        self.requests = requests

    def done(self, arm: str, ttft_s: float | None) -> None:
        self.times.append((arm, ttft_s))
