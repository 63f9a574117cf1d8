"""The driver's hold on the process of one lane: start it, give it its turns, keep it still meanwhile, end it."""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.core.errors import RunError, VoidRuns
from harness.core.processes import child_of
from harness.experiment.lanes.protocol import PROTOCOL, decode, encode

ENDING_S = 60.0
"""For stopping vLLM and emptying the store; then the processes are killed."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The run that a lane will carry out next, in its own numbers."""

    run: int
    round: int
    arm: str
    loaded: int


class Listener(Protocol):
    """What a worker reports beside its turns; Lane is one."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def expect(self, requests: int) -> None:
        """That many timed requests will follow."""


class ProcessGroup:
    """A process with all its children: stopped and continued together, and their processor time. Linux.

    A stopped group takes no processor time at all.
    """

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
        """User and system time of all living members, in seconds; 0 if there is no /proc."""
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


class Worker:
    """One worker, in a process group of its own, so that Ctrl-C reaches the driver only and the group can be stopped.

    Every call that waits raises RunError if the worker fails, dies, or says nothing for ``patience_s``, and VoidRuns
    if it failed a proof.
    """

    def __init__(
        self, called: str, folder: Path, listener: Listener, patience_s: float, ending_s: float = ENDING_S, *, if_slow: str
    ) -> None:
        """``called``: in messages. ``folder``: where the worker leaves its results and logs. ``if_slow``: the fix for one."""
        self.called = called
        self.folder = folder
        self.hello: dict[str, Any] = {}
        self.idle_cpu_s = 0.0
        self._listener = listener
        self._patience_s = patience_s
        self._ending_s = ending_s
        self._if_slow = if_slow
        self._log = folder / "worker.log"
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._group: ProcessGroup | None = None
        self._cpu_at_stop: float | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str], experiment: Mapping[str, Any], said: str) -> None:
        """Start it and wait for its greeting. ``said``: the user's command, for its run.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log, warnings.catch_warnings():
            # Python 3.12 warns of preexec_fn beside threads: ours takes no lock, and the listeners of other lanes only wait.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Same session, other group: if the driver is killed, the kernel continues a stopped group by SIGHUP and SIGCONT.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                process_group=0,
                preexec_fn=child_of(os.getpid()),
            )
        self._group = ProcessGroup(self._process.pid)
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        folder = str(self.folder.resolve())
        self._say("start", protocol=PROTOCOL, experiment=dict(experiment), folder=folder, command=said)
        self.hello = self._next("starting", "hello")

    def turn(self, doing: str) -> Turn | None:
        """Wait for the next turn, or None when all its runs are on disk. ``doing``: what it does meanwhile, for messages."""
        message = self._next(doing, "turn", "over")
        if message["kind"] == "over":
            return None
        return Turn(message["run"], message["round"], message["arm"], message["loaded"])

    def go(self) -> None:
        """Let it carry out the run that it announced."""
        self._resume()
        self._say("go")

    def keep_still(self) -> None:
        """Stop its processes until its next turn, so that they take nothing from the lane that is measured."""
        if self._group is not None:
            self._group.stop()
            self._cpu_at_stop = self._group.cpu_s()

    def finish(self) -> None:
        """All is measured: let it stop vLLM and clean the store, and wait for that."""
        self._resume()
        self._say("stop")
        self._next("stopping", "ended")
        self._wait(self._ending_s)

    def end(self) -> bool:
        """End it, however it stands; whether it ended by itself and so has cleaned the store. Safe to call at any time."""
        if self._process is None or self._group is None:
            return True
        try:
            if self._process.poll() is None:
                self._group.go_on()
                self._process.send_signal(signal.SIGINT)
            clean = self._wait(self._ending_s)
        finally:  # also if the user has no patience: whatever is left of vLLM
            self._group.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return clean

    def _resume(self) -> None:
        if self._group is not None and self._cpu_at_stop is not None:
            self.idle_cpu_s += max(0.0, self._group.cpu_s() - self._cpu_at_stop)
            self._cpu_at_stop = None
            self._group.go_on()

    def _wait(self, seconds: float) -> bool:
        """Whether the process has ended by itself within that time."""
        if self._process is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds) >= 0
        return False

    def _listen(self, pipe: Any) -> None:
        """In a thread, since reading a pipe has no time limit."""
        with contextlib.suppress(OSError, ValueError):  # closed by end()
            for line in pipe:
                self._said.put(line)
        self._said.put(b"")

    def _say(self, kind: str, **fields: object) -> None:
        if self._process is None or self._process.stdin is None:
            raise RunError(f"the {self.called} was not started")
        try:
            self._process.stdin.write(encode(kind, **fields))
            self._process.stdin.flush()
        except OSError:
            raise self._gone("taking an order") from None

    def _next(self, doing: str, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds; stages on the way go to the listener."""
        while True:
            try:
                line = self._said.get(timeout=self._patience_s)
            except queue.Empty:
                reason = f"has said nothing for {self._patience_s:.0f} s while {doing}; see {self._log} and vllm.log beside it, "
                reason += f"and {self._if_slow} if it is only slow"
                raise RunError(f"the {self.called} {reason}") from None
            if not line:
                raise self._gone(doing)
            message = decode(line)
            if message["kind"] in kinds:
                return message
            self._heed(message, doing)

    def _heed(self, message: Mapping[str, Any], doing: str) -> None:
        if message["kind"] == "failed":
            kind = VoidRuns if message.get("exit_code") == VoidRuns.exit_code else RunError
            raise kind(f"the {self.called} failed while {doing}: {message['error']}")
        if message["kind"] == "stage":
            self._listener.stage(message["text"])
        elif message["kind"] == "expect":
            self._listener.expect(message["requests"])
        else:
            raise RunError(f"the {self.called} said '{message['kind']}' while {doing}, which does not belong there")

    def _gone(self, doing: str) -> RunError:
        self._wait(5.0)
        code = self._process.returncode if self._process is not None else None
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it printed nothing"]
        return RunError(f"the {self.called} {how} while {doing}: {lines[-1]}; see {self._log}")


def command_of(python: Path) -> list[str]:
    """How a worker is started with this interpreter; -P keeps the current folder from being imported from."""
    return [str(python), "-P", "-m", "harness.experiment.lanes.worker"]
