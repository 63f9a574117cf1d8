"""What driver and worker say to each other: one small JSON object per line, since the two may be of different versions.

    driver to worker    start   protocol, experiment, folder, command: the first line
                        go      carry out the run that you announced
                        stop    no more runs: clean up
    worker to driver    hello   protocol, harness (the file that the package was imported from)
                        stage   text: for the terminal
                        expect  requests: how many will be timed
                        turn    run, round, arm, loaded: the next run, waiting; all runs before it are on disk.
                                loaded: modules of the version's own environment that this process has imported
                        over    all runs are on disk
                        failed  error: one sentence, exit_code: of its class (older versions say none); the worker ends
                        ended   vLLM is stopped and the store is clean; the worker ends

Rows travel through the results schema (harness/results/) in the lane's own folder, not through here.
"""

import json
from typing import Any

from harness.core.errors import RunError

PROTOCOL = 2
"""To be raised when a message changes its meaning; versions with different numbers cannot be measured together."""


def encode(kind: str, **fields: object) -> bytes:
    """One message as a line."""
    return json.dumps({"kind": kind, **fields}).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """A line as a message. Raises RunError for anything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise RunError(f"{line[:80]!r} is no message; something other than the worker writes to its pipe")
    return message
