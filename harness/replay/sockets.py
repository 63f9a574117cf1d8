"""A folder for vLLM's sockets, which vLLM leaves behind when it ends."""

import contextlib
import os
import tempfile
from pathlib import Path

SOCKETS, OWN = "VLLM_RPC_BASE_PATH", "ttft-vllm-"
LONGEST = 60
"""Of the folder's path: a socket's has 107 bytes, of which its name takes 37."""


def own_sockets() -> contextlib.ExitStack:
    """A folder that vLLM puts its sockets in until this is closed, when it is deleted.

    None of ours where the user names one, or where paths would get too long for a socket.
    """
    stack = contextlib.ExitStack()
    if SOCKETS in os.environ and not Path(os.environ[SOCKETS]).name.startswith(OWN):
        return stack
    folder = tempfile.TemporaryDirectory(prefix=OWN)
    stack.callback(folder.cleanup)
    if len(folder.name) > LONGEST:
        stack.close()
        return stack
    os.environ[SOCKETS] = folder.name
    stack.callback(_forget, folder.name)  # or what is started later would look for a folder that is gone
    return stack


def _forget(folder: str) -> None:
    if os.environ.get(SOCKETS) == folder:
        del os.environ[SOCKETS]
