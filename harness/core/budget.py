"""Limits of time, and ending what is under way as Ctrl-C does, whoever asks for it."""

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator

from harness.core.errors import UsageError


def interrupt(*_: object) -> None:
    """A signal handler that raises KeyboardInterrupt in the main thread, through SIGINT where somebody handles that.

    Where SIGINT is ignored, as in jobs that a script starts in the background, it is raised here.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
CLEANING_UP_S = 15.0
"""Kept of a budget for stopping vLLM, emptying the store and writing the verdict."""


def parse_duration(text: str) -> float:
    """``10m``, ``90s`` or ``1h30m`` in seconds. Raises UsageError for anything else, and for none at all."""
    if not re.fullmatch(r"(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?", text) or not text:
        raise UsageError(f"'{text}' is not a duration; write hours, minutes and seconds, as 10m, 90s or 1h30m")
    seconds = sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
    if seconds <= CLEANING_UP_S:
        raise UsageError(f"a budget of {text} is over before anything is measured; give more than {CLEANING_UP_S:g}s")
    return seconds


class Budget:
    """Seconds from now on. ``clock`` gives seconds, as ``time.monotonic`` does."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds - CLEANING_UP_S

    @property
    def left(self) -> float:
        """Seconds in which one may still measure; negative when it is over."""
        return self._end - self._clock()

    @contextlib.contextmanager
    def enforced(self) -> Iterator[None]:
        """Raise KeyboardInterrupt in the main thread when it is over, whatever is going on: cleaned up as after Ctrl-C."""
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, max(self.left, 1e-3))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
