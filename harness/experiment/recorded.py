"""run.json while something is measured: true from before the first request to after the last, however it ends."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from harness.errors import TtftError
from harness.results import RunWriter


@contextlib.contextmanager
def recorded(meta: dict[str, Any], writer: RunWriter, at_end: Callable[[], None] | None = None) -> Iterator[None]:
    """Write ``meta`` before and after the body, with its status and its end. ``at_end`` runs in any case, and may add to it."""
    writer.write_meta(meta)
    try:
        yield
        meta["status"] = "void" if meta["void_runs"] else "complete"
    except BaseException as error:
        meta["status"] = "partial"
        meta["ended_by"] = _name_of(error)
        raise
    finally:
        meta["ended"] = now()
        writer.write_meta(meta)
        if at_end is not None:
            at_end()
            writer.write_meta(meta)


def _name_of(error: BaseException) -> str:
    """Our own errors are sentences. Inside an event loop Ctrl-C arrives as a cancellation."""
    if isinstance(error, TtftError):
        return str(error)
    return "KeyboardInterrupt" if isinstance(error, asyncio.CancelledError) else type(error).__name__


def now() -> str:
    """The time as run.json has it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
