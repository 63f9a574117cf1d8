"""A process with all its children as one group: stopped and continued together, and its processor time. Linux."""

import contextlib
import os
import signal
from pathlib import Path


class ProcessGroup:
    """The group that a leader has made. A stopped group takes no processor time at all."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def stop(self) -> None:
        """Stop every member where it stands."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue every member."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End every member, stopped or not."""
        self._send(signal.SIGKILL)

    def cpu_s(self) -> float:
        """User and system time of all living members, in seconds; 0 where there is no /proc."""
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in self._members())
        return ticks / os.sysconf("SC_CLK_TCK")

    def running(self) -> bool:
        """Whether a member is neither stopped nor dead."""
        return any(fields[0] not in "TtZX" for fields in self._members())

    def _members(self) -> list[list[str]]:
        """Fields of /proc/PID/stat from the state on, as proc(5) counts them from 3."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # ended in the meantime
                fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[2]) == self._leader:
                    found.append(fields)
        return found

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or gone and its number another's
            os.killpg(self._leader, number)
