"""Requests in the order of their times, for traces that give the time of a turn as a delay after the turn before it."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol, TypeVar

from harness.workloads._clock import plain
from harness.workloads._lines import bad_line, shortened


class Timed(Protocol):
    """What a line says about its time, in one unit."""

    @property
    def timestamp(self) -> float | None:
        """When it came."""

    @property
    def delay(self) -> float | None:
        """How long after the session's turn before."""

    @property
    def session_id(self) -> str | int | None:
        """Whose turn it is."""


TimedT = TypeVar("TimedT", bound=Timed)


def in_time_order(path: str, lines: Iterable[tuple[int, TimedT]]) -> Iterator[tuple[int, TimedT, float]]:
    """(line number, line, time) in the order of time; 0 throughout if no line has a time.

    A file whose first line names a session is read as a whole, since turns of one session mostly stand together; any
    other is read as far as asked, in its own order. Raises UsageError if a line has no time and others do.
    """
    numbered = iter(lines)
    first = next(numbered, None)
    if first is None:
        return
    rest = chain([first], numbered)
    timed = _Times(path)
    if first[1].session_id is None:
        yield from ((number, line, timed.of(number, line)) for number, line in rest)
    else:
        placed = [(number, line, timed.of(number, line)) for number, line in rest]
        yield from sorted(placed, key=lambda one: one[2])


class _Times:
    """Gives each line its time: its own, or its session's latest plus the delay."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamped: bool | None = None
        self._latest: dict[str | int, float] = {}

    def of(self, number: int, line: Timed) -> float:
        """Raises UsageError if it cannot be said, or lies before the session's turn before."""
        session = line.session_id
        earlier = None if session is None else self._latest.get(session)
        if earlier is not None and line.timestamp is None:
            time = earlier + (line.delay or 0.0)
        else:
            self._check_stamped(number, line.timestamp is not None)
            time = line.timestamp if line.timestamp is not None else line.delay or 0.0
        if earlier is not None and time < earlier:
            problem = f"timestamp={plain(time)} lies before the {plain(earlier)} of session '{shortened(str(session), 40)}'"
            raise bad_line(self._path, number, problem, "write the turns of a session in their order")
        if session is not None:
            self._latest[session] = time
        return time

    def _check_stamped(self, number: int, stamped: bool) -> None:
        if self._stamped is None:
            self._stamped = stamped
        if stamped != self._stamped:
            problem = "some requests have a timestamp and some not, and no earlier turn of their session"
            raise bad_line(self._path, number, problem, "give a timestamp on the first turn of each session, or on none")
