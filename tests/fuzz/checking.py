"""What is asked of a parser, whatever it is fed: it returns, or it raises an error of ours that is one short line, in time."""

import contextlib
import re
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from harness.core.errors import TtftError
from harness.core.text import printable

LONGEST_MESSAGE = 600
SECONDS = 1.0
"""Of the processor; a second more where a machine is busy."""
MEMORY = 512 << 20
"""Bytes that one input may cost."""


SECRET = "hunter2"
"""The password in all good inputs; no message may show it while it still looks like one."""
_AS_A_PASSWORD = re.compile(rb"(?<![A-Za-z0-9+.-])[a-z0-9+]+://[a-z]+:hunter2@[a-z0-9]|hf_token *= *'hunter2'", re.ASCII)


@dataclass(frozen=True)
class Parser:
    """``call`` takes an input, and a folder of its own to put it into. ``raises``: what its caller expects of it."""

    name: str
    call: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]
    raises: tuple[type[Exception], ...] = (TtftError,)
    packed: bool = False
    weight: int = 1
    """How much more time than others: for a parser that is slow and matters."""


class TooSlow(BaseException):
    """Not over in time."""


def wrong(parser: Parser, data: bytes, folder: Path, seconds: float = SECONDS) -> str:
    """What is wrong with how ``parser`` takes ``data``; empty if nothing is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    try:
        with _limited(seconds):
            parser.call(data, folder)
        problem = ""
    except parser.raises as error:
        problem = _wrong_message(str(error), data)
    except TooSlow:
        return f"not over within {seconds:g} s, at {_STOPPED[-1]}"
    except (Exception, RecursionError) as error:  # noqa: BLE001  whatever else comes out is what is looked for
        return f"{type(error).__name__} at {_place(error)}: {str(error)[:200]}"
    if not problem and time.process_time() - begin > seconds:
        problem = f"took {time.process_time() - begin:.1f} s"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return problem or (f"took {grown >> 20} MiB" if grown > MEMORY else "")


def _wrong_message(text: str, data: bytes) -> str:
    if not text:
        return "an error without a message"
    if len(text) > LONGEST_MESSAGE:
        return f"a message of {len(text)} characters: {text[:200]!r}"
    if printable(text) != text:
        return f"a message with what does not show: {text!r}"
    if SECRET in text and data.count(SECRET.encode()) == len(_AS_A_PASSWORD.findall(data)):
        return f"a password in a message: {text!r}"
    return ""


_STOPPED: list[str] = []


def _place(error: BaseException) -> str:
    """Where in our code it came from, and where it was raised: what tells one finding from another."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/harness/" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno} ({ours[-1].name})"


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(_: int, frame: FrameType | None) -> None:
        stack = traceback.extract_stack(frame)
        ours = [one for one in stack if "/harness/" in one.filename] or stack
        _STOPPED[:] = [f"{Path(ours[-1].filename).name}:{ours[-1].lineno} ({ours[-1].name})"]
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds * 2)  # a call that C is in ends late; the clock says so then
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
