"""Where commands print."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console


def console() -> Console:
    """Made anew at each use, so that it prints to the current stdout; wide enough for tables if there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def finite(value: Any) -> Any:
    """With null for numbers that JSON has no word for: a bandwidth without a bound, an interval of one run."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def only_json(wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Gives what prints the answer of ``--json``: within it all else goes to stderr. Does nothing if it is not ``wanted``."""
    if not wanted:
        yield lambda answer: None
        return
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield lambda answer: print(json.dumps(finite(answer), indent=2), file=out, flush=True)
