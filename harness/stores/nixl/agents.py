"""NIXL's agents: each has a backend with a queue of its own, and serves one thread at a time.

A backend's queue has no lock by itself: eight threads on one agent end in "free(): invalid next size". NIXL can lock each call,
which also lines up the reads that a call carries out; so there is an agent for each thread that reads at the same time.
"""

import importlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from harness.core.errors import SetupError

_MODULES = ("nixl", "nixl_cu12", "nixl_cu13")
"""The first finds one of the others by the CUDA of PyTorch; without CUDA only these can be asked."""

_ANY_MEMORY = (4096, (1 << 47) - 8192, 0, "")
"""All that a process can have. For host memory, registering is an entry in a list, in which NIXL looks each buffer up."""

_POLL_S, _LONGEST_POLL_S = 20e-6, 1e-3

Place = tuple[int, int, int]
"""Address, bytes and device of a buffer; or offset, bytes and descriptor of a range of a file."""


class TransferFailed(Exception):
    """NIXL could not carry out a transfer; it does not say which of its ranges failed."""


class Agent:
    """One of NIXL's agents with one backend. Used by one thread at a time; after a failure it must not be used again."""

    def __init__(self, plugin: str) -> None:
        """Raises SetupError for what is not installed or does not start."""
        api = _api()
        self._name = f"ttft-{uuid4().hex}"
        self._agent: Any = api.nixl_agent(self._name, api.nixl_agent_config(enable_prog_thread=False, backends=[]))
        plugins = self._agent.get_plugin_list()
        if plugin not in plugins:
            raise SetupError(f"NIXL has no plugin '{plugin}' here; write plugin= and one of {', '.join(plugins)}")
        if not {"DRAM_SEG", "FILE_SEG"} <= set(self._agent.get_plugin_mem_types(plugin)):
            raise SetupError(f"NIXL's plugin {plugin} does not read files into host memory; write plugin=POSIX")
        try:
            # By libaio: after a failure, its queue waits for what is under way when it ends. io_uring's does not.
            self._agent.create_backend(plugin, {"use_aio": "true"} if plugin == "POSIX" else {})
            self._agent.register_memory([_ANY_MEMORY], "DRAM")
        except Exception as error:  # noqa: BLE001 - its classes have no common base, and a plugin may raise any
            raise SetupError(f"NIXL's plugin {plugin} does not start: {_one_line(error)}; write plugin=POSIX") from None

    def read(self, local: Sequence[Place], remote: Sequence[Place]) -> None:
        """Fill each buffer of ``local`` from the range of a file beside it in ``remote``.

        Raises TransferFailed; nothing is written to a buffer after that.
        """
        try:
            failure = self._read(local, remote)
        except Exception as error:  # noqa: BLE001 - as above
            failure = _one_line(error)
        if failure:
            # What is under way besides the range that failed can't be taken back, but the end of its queue waits for it.
            # That has to be here and now, so no traceback may still refer to the agent.
            self._agent = None
            raise TransferFailed(failure)

    def _read(self, local: Sequence[Place], remote: Sequence[Place]) -> str:
        """Why it failed; empty if it did not."""
        agent = self._agent
        registered = agent.register_memory([(0, 0, file, "") for file in dict.fromkeys(item[2] for item in remote)], "FILE")
        pieces = agent.get_xfer_descs(list(local), "DRAM"), agent.get_xfer_descs(list(remote), "FILE")
        work = agent.initialize_xfer("READ", *pieces, self._name)
        state, pause = agent.transfer(work), _POLL_S
        while state == "PROC":
            state = agent.check_xfer_state(work)
            if state == "PROC":
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_POLL_S)
        if state != "DONE":
            return str(state)
        agent.release_xfer_handle(work)
        agent.deregister_memory(registered)
        return ""


class Agents:
    """As many as there are readers at once, each made when it is wanted. Thread-safe."""

    def __init__(self, plugin: str) -> None:
        """Raises SetupError where none can be made."""
        self._plugin = plugin
        self._lock = threading.Lock()
        self._idle = [Agent(plugin)]

    def read(self, local: Sequence[Place], remote: Sequence[Place]) -> None:
        """As ``Agent.read``, by an agent of this call's own."""
        with self._lock:
            agent = self._idle.pop() if self._idle else None
        agent = agent or Agent(self._plugin)
        agent.read(local, remote)
        with self._lock:
            self._idle.append(agent)

    def close(self) -> None:
        """End those that are idle."""
        with self._lock:
            self._idle.clear()


def _api() -> Any:
    os.environ.setdefault("NIXL_LOG_LEVEL", "FATAL")  # what fails is in our own sentences
    for module in _MODULES:
        try:
            api = importlib.import_module(f"{module}._api")
        except ImportError:
            continue
        logging.getLogger("nixl").setLevel(logging.CRITICAL)  # it tells of each agent on the standard output
        return api
    raise SetupError("nixl stores need the package nixl; install it: pip install 'ttft[nixl]'")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
