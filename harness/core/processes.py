"""Processes that end with whoever started them, also if that one is killed without a word. Linux; elsewhere nothing happens."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

OWNER = "TTFT_OWNER"
"""The variable that tells vLLM's processes for which process they work."""


def child_of(parent: int) -> Callable[[], None]:
    """For Popen's ``preexec_fn``: the child gets SIGTERM when ``parent``, this process, dies, and SIGINT ends it.

    Linux counts from the thread that starts the child: start it from the main thread, or from one that lives as long.
    A shell has its background jobs ignore SIGINT, and children inherit that.
    """
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if sys.platform.startswith("linux"):
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return prepare


def end_with_owner() -> None:
    """In a process of vLLM: the kernel kills it with its parent. Does nothing unless a measurement owns it.

    vLLM starts its processes by itself, and they hold the model's memory until somebody tells them to end.
    """
    owner = os.environ.get(OWNER, "")
    if not owner.isdigit() or int(owner) == os.getpid() or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:  # it died while the model was loaded
        os._exit(1)
    except PermissionError:
        pass


@contextlib.contextmanager
def interrupted_at_once() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt in the body also within a running asyncio loop, which only takes note of the first one, so
    that a call that blocks the loop's thread would go on.

    Does nothing outside the main thread, or where SIGINT is ignored.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_by_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP end this process as Ctrl-C does, whatever it inherited; the first one counts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def once(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, once)
    signal.signal(signal.SIGHUP, once)
