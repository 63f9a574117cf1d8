"""Seconds over prefix lengths: known at some, straight lines between them."""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.errors import UsageError

LONGEST_S = 1e6


@dataclass(frozen=True, slots=True)
class Curve:
    """``points`` maps prefix tokens to seconds. A single point holds for every length; several hold between the outer two."""

    what: str
    points: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, what: str, points: Mapping[int, float]) -> "Curve":
        """In the order of the lengths. Raises UsageError if there is none."""
        if not points:
            raise UsageError(f"{what} is known for no prefix length; give one value at least")
        return cls(what, tuple(sorted(points.items())))

    @classmethod
    def parse(cls, what: str, text: str) -> "Curve":
        """``"30"`` (milliseconds, for every length) or ``"1024:30,16384:55"`` (tokens:milliseconds). Raises UsageError."""
        points: dict[int, float] = {}
        for item in text.split(","):
            tokens, colon, value = item.strip().rpartition(":")
            try:
                length, seconds = int(tokens) if colon else 0, float(value) / 1e3
            except ValueError:
                length, seconds = -1, math.nan
            if length < 0 or not 0 <= seconds <= LONGEST_S:
                raise UsageError(f"{what} '{item.strip()}' is invalid; write milliseconds, or TOKENS:MS,TOKENS:MS")
            if length in points or (not colon and "," in text):
                raise UsageError(f"{what} '{text}' has more than one time for a length; write TOKENS:MS,TOKENS:MS")
            points[length] = seconds
        return cls.of(what, points)

    def covers(self, tokens: int) -> bool:
        """Whether anything is known at a prefix of ``tokens``."""
        return len(self.points) == 1 or self.points[0][0] <= tokens <= self.points[-1][0]

    def at(self, tokens: int) -> float:
        """Seconds at a prefix of ``tokens``. Raises UsageError beyond the outer points, where nothing is known."""
        lengths = [length for length, _ in self.points]
        if len(lengths) == 1:
            return self.points[0][1]
        if not self.covers(tokens):
            raise UsageError(
                f"{self.what} is known for prefixes of {lengths[0]:,} to {lengths[-1]:,} tokens, not of {tokens:,}; "
                "give --prefix lengths between, or times for more lengths"
            )
        right = bisect_left(lengths, tokens)
        if lengths[right] == tokens:
            return self.points[right][1]
        (low, before), (high, after) = self.points[right - 1], self.points[right]
        return before + (after - before) * (tokens - low) / (high - low)
