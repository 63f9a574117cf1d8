"""Where commands print."""

import sys

from rich.console import Console


def console() -> Console:
    """Made anew at each use, so that it prints to the current stdout; wide enough for tables if there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)
