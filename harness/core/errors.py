"""The exception tree, each class with the exit code that the command line gives it.

TtftError                     2
├── UsageError                2   a wrong name, option, value or file of the user's
├── SetupError                2   this machine lacks something (vLLM, a driver, a right)
├── StoreError                2   a store cannot do what was asked
│   ├── StoreUnavailable      2   not reachable, not writable, full
│   │   └── DeadlineMissed    2   not in place when the caller stopped waiting
│   ├── ChunkMissing          2   no object under this key
│   ├── ChunkInvalid          2   an object that must not be used
│   │   ├── NotAChunk         2   wrong magic: not written by us
│   │   ├── ChunkTruncated    2   shorter than its header says
│   │   ├── ForeignChunk      2   another model, geometry, format version or key
│   │   └── ChunkCorrupt      2   a checksum does not match
│   └── ReadFailures          2   some reads of a batch failed; carries which
├── ResultsError              2   a results folder that cannot be read
│   └── SchemaMismatch        2   written by another major schema version
├── RunError                  2   the measurement itself failed
└── VoidRuns                  4   measured, but a proof failed: the numbers don't count

1 and 3 are a gate's FAIL and INCONCLUSIVE: verdicts, no errors (harness/gate/verdict.py).
Every message is one sentence that names the thing, the value and the fix. It may quote input of any length: what ``str``
gives is one line of at most LONGEST characters, without passwords.
"""

from collections.abc import Mapping
from typing import ClassVar

from harness.core.text import one_line, shortened

LONGEST = 600
"""Characters of a message."""


class TtftError(Exception):
    """Anything that ends a command with one clear sentence."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return one_line(super().__str__(), LONGEST)


class UsageError(TtftError):
    """The user named something that does not exist or cannot be."""


class SetupError(TtftError):
    """The machine lacks something that the command needs."""


class StoreError(TtftError):
    """A store could not do what was asked of it."""


class StoreUnavailable(StoreError):
    """The store is not reachable, not writable, or full."""


class DeadlineMissed(StoreUnavailable):
    """A read was not in place by the deadline of its load."""


class ChunkMissing(StoreError):
    """There is no object under the key."""


class ChunkInvalid(StoreError):
    """There is an object under the key, but it must not be used."""


class NotAChunk(ChunkInvalid):
    """The object does not begin with our magic."""


class ChunkTruncated(ChunkInvalid):
    """The object is shorter than its format says."""


class ForeignChunk(ChunkInvalid):
    """The object belongs to another model, geometry, format version or key."""


class ChunkCorrupt(ChunkInvalid):
    """The bytes of the object do not match its checksums."""


class ReadFailures(StoreError):
    """Some reads of a batch failed; the others are in place.

    ``failures`` maps the position of each failed read in its batch to why it failed.
    """

    def __init__(self, failures: Mapping[int, StoreError]) -> None:
        self.failures = dict(failures)
        first = next(iter(self.failures.values()))
        super().__init__(f"{len(self.failures)} of the reads failed, the first with: {first}")


class ResultsError(TtftError):
    """A results folder cannot be read or written."""


class SchemaMismatch(ResultsError):
    """The results were written under another major schema version."""


class RunError(TtftError):
    """The measurement itself failed."""


class VoidRuns(TtftError):
    """Measured, but a proof failed, so the numbers do not count."""

    exit_code = 4


def known(kind: str, name: str, names: list[str]) -> UsageError:
    """The error for an unknown ``name``: it lists the known ones and the nearest."""
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return UsageError(f"unknown {kind} '{shortened(name, 200)}'{hint}; known: {', '.join(sorted(names)) or 'none'}")
