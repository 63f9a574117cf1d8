"""The process of one lane: the ordinary experiment with this version's code, each run waiting for its turn.

python -P -m harness.experiment.lanes.worker        started by the driver (process.py), spoken to through stdin and stdout
"""

import asyncio
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any, BinaryIO

import harness
from harness.core.errors import RunError, TtftError
from harness.core.processes import end_by_signals
from harness.experiment.cache_state import PlannedRun
from harness.experiment.conduct import measure
from harness.experiment.hooks import Hooks
from harness.experiment.lanes.protocol import PROTOCOL, decode, encode
from harness.experiment.plan import settle
from harness.experiment.settings import merge

INTERRUPTED = 130


class Channel:
    """The pipes to the driver."""

    def __init__(self, heard: BinaryIO, said: BinaryIO) -> None:
        """``heard`` must not buffer, or an event loop would wait for what has been read already."""
        self._heard = heard
        self._said = said

    @classmethod
    def of_process(cls) -> "Channel":
        """Stdin, and what was stdout. From now on whatever prints goes to stderr, vLLM's processes included."""
        said = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        return cls(os.fdopen(os.dup(0), "rb", buffering=0), said)

    def say(self, kind: str, **fields: object) -> None:
        """Tell the driver."""
        self._said.write(encode(kind, **fields))

    def hear(self) -> dict[str, Any]:
        """Wait for a message. Raises RunError if the driver is gone."""
        line = self._heard.readline()
        if not line:
            raise RunError("the process that gives out the turns is gone")
        return decode(line)

    async def heard(self) -> dict[str, Any]:
        """The same, without holding up the event loop."""
        there, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._heard, there.set)
        try:
            await there.wait()
        finally:
            loop.remove_reader(self._heard)
        return self.hear()

    def close(self) -> None:
        """Close both pipes."""
        self._heard.close()
        self._said.close()


class LaneHooks(Hooks):
    """Turns that the driver gives, and stages for its terminal. Not single requests: waking the driver would disturb the next."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._loaded: int | None = None

    def stage(self, text: str) -> None:
        """Pass it on."""
        self._channel.say("stage", text=text)

    def expect(self, requests: int) -> None:
        """Pass it on."""
        self._channel.say("expect", requests=requests)

    async def turn(self, run: PlannedRun) -> None:
        """Announce the run and wait for the word."""
        self._loaded = own_modules() if self._loaded is None else self._loaded
        self._channel.say("turn", run=run.run, round=run.round, arm=run.arm, loaded=self._loaded)
        await self._expect("go")

    async def over(self) -> None:
        """Keep vLLM up until the other lanes are done: stopping it takes processor time."""
        self._channel.say("over")
        await self._expect("stop")

    async def _expect(self, kind: str) -> None:
        heard = await self._channel.heard()
        if heard["kind"] != kind:
            raise RunError(f"the driver said '{heard['kind']}', but this lane waits for '{kind}'")


def own_modules() -> int:
    """Imported modules that lie in this environment itself, not in the one that it shares."""
    home = Path(sysconfig.get_path("purelib")).resolve()
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return sum(home in Path(file).resolve().parents for file in files if file)


def serve(channel: Channel) -> None:
    """Carry out what the first message asks for. Raises TtftError."""
    order = channel.hear()
    channel.say("hello", protocol=PROTOCOL, harness=str(harness.__file__))
    if order.get("protocol") != PROTOCOL:
        raise RunError(
            f"this version of ttft takes turns by protocol {PROTOCOL}, not by {order.get('protocol')}; "
            "run ttft ab from a version nearer to it"
        )
    setting = settle(merge(order["experiment"]))
    measure(setting, Path(order["folder"]), order["command"], LaneHooks(channel))


def main() -> int:
    """Returns the exit code; every expected error goes to the driver as one sentence."""
    end_by_signals()
    channel = Channel.of_process()
    try:
        serve(channel)
    except KeyboardInterrupt:
        return INTERRUPTED
    except TtftError as error:
        channel.say("failed", error=str(error), exit_code=error.exit_code)
        return error.exit_code
    channel.say("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
