"""Times of a trace: counted from its first request, in order, and in the unit that the format says."""

from dataclasses import dataclass

from harness.workloads._lines import bad_line

LATEST = 1e19
"""Later times are taken for mistakes: nanoseconds since 1970 are below it."""

_FEW = 20
_FASTEST = 500.0
_SLOWEST = 0.01
"""Requests per second, outside which the unit is doubted. Seconds taken for milliseconds make a trace 1,000 times faster,
and published traces have 0.1 to 50 requests per second."""


class Clock:
    """Counts times from the first one. ``field``: what the trace calls its time; ``seconds``: of one unit of it.

    Whole numbers as large as milliseconds since 1970 lose nothing: the first is subtracted before the unit is applied.
    """

    def __init__(self, path: str, field: str, seconds: float = 1.0) -> None:
        self._path = path
        self._field = field
        self._seconds = seconds
        self._first: float | None = None  # or whole nanoseconds, which a float would round
        self._latest: tuple[float, str] | None = None

    def since_first(self, number: int, time: float, shown: str) -> float:
        """Seconds from the first time to this one. ``shown``: the time as the trace writes it.

        Raises UsageError for line ``number`` if it lies before an earlier one.
        """
        if self._first is None:
            self._first = time
        if self._latest is not None and time < self._latest[0]:
            problem = f"{self._field}={shown} lies before the {self._latest[1]} of an earlier line"
            raise bad_line(self._path, number, problem, "sort the trace by time")
        self._latest = (time, shown)
        return (time - self._first) * self._seconds

    def named(self, shown: str) -> str:
        """A time with its field, for messages."""
        return f"{self._field}={shown}"


def plain(time: float) -> str:
    """A time as a trace would write it: no exponent below 10^15."""
    return f"{time:.15g}"


@dataclass(frozen=True, slots=True)
class ClockUnit:
    """What the times of a format are counted in.

    ``field``: the trace's name for the time. ``unit``: as users call it. ``fix``: how to read times of another unit.
    """

    field: str
    unit: str
    fix: str

    def doubt(self, requests: int, span_s: float) -> tuple[str, ...]:
        """A sentence if so many requests in so many seconds make another unit likely."""
        if requests < _FEW or span_s <= 0:
            return ()
        rate = (requests - 1) / span_s
        if _SLOWEST <= rate <= _FASTEST:
            return ()
        pace = f"{rate:,.0f} requests per second" if rate > 1 else f"one request in {1 / rate:,.0f} s"
        return (f"Warning: with {self.field} in {self.unit} the trace has {pace}. If that is not so, {self.fix}.",)
