"""Ending what is under way as Ctrl-C does, whoever asks for it: a limit of time, another process, a shutdown."""

import signal


def interrupt(*_: object) -> None:
    """A signal handler that raises KeyboardInterrupt in the main thread, through SIGINT where somebody handles that.

    Where SIGINT is ignored, as in jobs that a script starts in the background, it is raised here.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
