"""KvikIO in this process: whether it can work here, its settings, and the memory registered with cuFile.

KvikIO keeps its settings for the whole process, and a file takes them when it is opened. So all stores
that are open at one time have to agree on them.
"""

import ctypes
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.core.errors import SetupError, UsageError
from harness.core.machine import nvidia_driver

Compat = Literal["auto", "on", "off"]

_LIBRARY = "libcuda.so.1"
_WITHOUT = "use file:///path?direct=1, which reads into host memory"
_REGISTERED_BEFORE = "already registered"  # what cuFile calls CU_FILE_MEMORY_ALREADY_REGISTERED


@dataclass(frozen=True, slots=True)
class Settings:
    """``compat``: KvikIO's CompatMode; ``threads`` in its pool; ``direct``: O_DIRECT for its POSIX reads, if aligned."""

    compat: Compat
    threads: int
    direct: bool

    def __str__(self) -> str:
        return ", ".join(f"{name}={int(value) if value in (True, False) else value}" for name, value in asdict(self).items())


class KvikioProcess:
    """What the gds stores of one process share. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settings: Settings | None = None
        self._users = 0
        self._kvikio: Any = None
        self._first_user: int | None = None
        self._registered: list[Any] = []

    def enter(self, wanted: Settings) -> Any:
        """The module kvikio, set up as ``wanted``; call ``leave`` once for it.

        Raises SetupError if KvikIO cannot work, UsageError if an open store has other settings.
        """
        kvikio = _load()
        self.check()
        with self._lock:
            if self._users and self._settings != wanted:
                raise UsageError(
                    f"a gds store is open in this process with {self._settings}, and KvikIO has one setting for all; "
                    f"give the other store the same, or close the first"
                )
            if not self._users:
                kvikio.defaults.set(
                    {
                        "compat_mode": kvikio.CompatMode[wanted.compat.upper()],
                        "num_threads": wanted.threads,
                        "auto_direct_io_read": wanted.direct,
                    }
                )
            self._kvikio, self._settings, self._users = kvikio, wanted, self._users + 1
        return kvikio

    def check(self) -> None:
        """Raises SetupError in a process that was forked from one that had used KvikIO: it would wait for ever."""
        if self._first_user is None:
            self._first_user = os.getpid()
        elif self._first_user != os.getpid():
            raise SetupError(
                "this process was forked from one that had used a gds store, whose threads it lacks; "
                "let processes be spawned: VLLM_WORKER_MULTIPROC_METHOD=spawn"
            )

    def register(self, buffers: Sequence[Any]) -> None:
        """Register the allocations that these device buffers lie in, each once. Raises SetupError.

        KvikIO registers a whole allocation, which several buffers may share, and nothing in its compatibility mode.
        """
        with self._lock:
            for buffer in buffers:
                try:
                    self._kvikio.memory_register(buffer)
                except RuntimeError as error:
                    if _REGISTERED_BEFORE not in str(error):
                        raise SetupError(
                            f"cuFile does not register the KV cache: {one_line(error)}; give compat=on, or a smaller cache"
                        ) from None
                else:
                    self._registered.append(buffer)

    def leave(self) -> None:
        """A store is closed. With the last one the memory is deregistered."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for buffer in self._registered:
                with suppress(RuntimeError):  # freed before
                    self._kvikio.memory_deregister(buffer)
            self._registered.clear()


def one_line(error: Exception) -> str:
    """What KvikIO says, without line breaks."""
    return " ".join(str(error).split())


def _load() -> Any:
    """Import KvikIO. Asks for the driver first, since without one cuFile was seen to hang when a file is opened."""
    if nvidia_driver() is None:
        raise SetupError(f"gds stores need an NVIDIA driver, and this machine has none; install it, or {_WITHOUT}")
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise SetupError(f"gds stores need {_LIBRARY} of the NVIDIA driver, which does not load: {error}; install it") from None
    try:
        import kvikio
        import kvikio.defaults
    except ImportError:
        raise SetupError("gds stores need the package kvikio; install it: pip install 'ttft[gds]'") from None
    except (OSError, RuntimeError) as error:  # its own libraries, which it loads while it is imported
        raise SetupError(
            f"the package kvikio does not load: {one_line(error)}; install it again: pip install 'ttft[gds]'"
        ) from None
    return kvikio
