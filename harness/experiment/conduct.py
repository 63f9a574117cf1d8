"""The whole of an experiment, from an empty folder to a finished one. ``measure`` is the entry."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.errors import RunError, TtftError
from harness.experiment import correctness
from harness.experiment.at_peer import peer_session
from harness.experiment.at_server import session_at_server
from harness.experiment.at_targets import session_at_targets
from harness.experiment.cache_state import PlannedRun
from harness.experiment.hooks import Hooks
from harness.experiment.plan import RECOMPUTE, Setting
from harness.experiment.record import NOTHING, Earlier, declared, held, now, recorded
from harness.experiment.rows import TokenWitness
from harness.experiment.session import Session, own_session
from harness.experiment.timed import TimedRuns
from harness.results import RunWriter
from harness.stores import Store, open_store
from harness.workloads.base import Prompt

Open = Callable[[str], AbstractAsyncContextManager[Session]]
"""Opens a session with a vLLM of this dtype."""


def measure(setting: Setting, folder: Path, command: str, hooks: Hooks, earlier: Earlier = NOTHING) -> dict[str, Any]:
    """Run the experiment and return the measurement's meta data, as in run.json.

    ``earlier``: what a resumed folder already holds. Raises TtftError; whatever ends it, the rows measured so
    far are on disk, run.json says ``partial``, vLLM is stopped and the store cleaned.
    """
    with open_store(setting.experiment.store) as store:
        work = conduct(setting, folder, command, hooks, _opening(setting, store, folder, hooks), earlier)
        return asyncio.run(work)


def _opening(setting: Setting, store: Store, folder: Path, hooks: Hooks) -> Open:
    """The session that the setting means: servers as they are, a server with our connector, a peer's vLLM, or our own."""
    if setting.targets:
        return partial(session_at_targets, setting, store, folder, hooks)
    if setting.experiment.target:
        return partial(session_at_server, setting, store, folder, hooks)
    return partial(peer_session if setting.peers else own_session, setting, store, folder, hooks)


async def conduct(
    setting: Setting,
    folder: Path,
    command: str,
    hooks: Hooks,
    open_session: Open,
    earlier: Earlier = NOTHING,
    proof: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """As ``measure``, in sessions that the caller gives. ``proof``: what an earlier correctness pass found."""
    with held(folder, command), contextlib.closing(RunWriter(folder)) as writer:
        conductor = Conductor(setting, command, hooks, writer, earlier)
        with recorded(conductor.meta, writer):
            await conductor.conduct(open_session, proof)
    return conductor.meta


class Conductor:
    """One experiment under way."""

    def __init__(self, setting: Setting, command: str, hooks: Hooks, writer: RunWriter, earlier: Earlier) -> None:
        self._setting = setting
        self._hooks = hooks
        self._writer = writer
        self._earlier = earlier
        self._namespace = f"{writer.path.name}-{time.time_ns():x}"
        self.meta: dict[str, Any] = {**declared(setting, writer.path.name, command), **hooks.declared, **earlier.meta}

    async def conduct(self, open_session: Open, proof: Mapping[str, Any] | None) -> None:
        """All stages."""
        setting = self._setting
        chosen = correctness.choose(setting.data.prompts, setting.hits, setting.experiment.correctness_prompts)
        if proof is not None:
            self.meta["correctness"], chosen = dict(proof), []
        elif chosen and setting.proves_apart:
            # float32 KV is twice as large; the pass runs one request at a time, so the cache need not be.
            async with open_session("float32") as session:
                await self._prove(session, "float32", chosen)
            chosen = []
        async with open_session(setting.dtype) as session:
            self.meta["data"]["notes"].extend([*session.notes, *session.store.notes])
            self._note(session)
            if chosen:
                await self._prove(session, setting.dtype, chosen)
            self._hooks.stage(f"priming the store with {setting.primed_chunks} chunks")
            await session.prime(session.heads(setting), self._namespace)
            await self._warm_up(session)
            self._note(session)
            await self._timed_rounds(session)
        self.meta["warnings"].extend(session.warnings)

    def _note(self, session: Session) -> None:
        """Write what the session knows of itself to run.json: the driver of the turns reads it there."""
        session.log.poll()
        start = session.log.start
        self.meta |= {"geometry": start.get("geometry", {}), "direct_reads": start.get("direct"), **session.facts()}
        self.meta["engine"] = start.get("engine", {})
        if "torch_threads" in start:
            self.meta["binding"]["torch_threads"] = start["torch_threads"]
        self._writer.write_meta(self.meta)

    async def _prove(self, session: Session, dtype: str, chosen: list[tuple[Prompt, int]]) -> None:
        """The correctness pass, which only float32 can be; that of servers compares answers in whatever they compute."""
        if dtype != "float32" and not self._setting.targets:
            self.meta["correctness"]["detail"] = f"vLLM computes in {dtype}, and only float32 can show that KV is right"
            return
        self._hooks.stage(f"correctness pass: {len(chosen)} prompts by every arm")
        try:
            self.meta["correctness"] = await session.prove(self._setting, chosen, f"{self._namespace}-correctness")
        except TtftError as error:
            self.meta["correctness"] = {"status": "failed", "detail": str(error)}
            raise
        self._writer.write_meta(self.meta)

    async def _warm_up(self, session: Session) -> None:
        """Every arm serves warm-up prompts before anything is timed."""
        tokens, hit = self._setting.warmup
        namespace = f"{self._namespace}-warm-up"
        self._hooks.stage("warming up")
        if hit and self._setting.loading_arms:
            await session.prime([session.head(tokens, hit)], namespace)
        for _ in range(self._setting.experiment.warmup):
            for arm in self._setting.arms:
                if arm == RECOMPUTE:
                    continue
                outcome = await session.send(arm, tokens, 2, namespace, hit=hit, save=False)
                if outcome.error:
                    raise RunError(f"warming up failed in arm {arm}: {outcome.error}")
        session.delete(session.keys(tokens, namespace))

    async def _timed_rounds(self, session: Session) -> None:
        setting, todo = self._setting, self._earlier.left_of(self._setting.planned_runs)
        self._hooks.expect(len(todo) * len(setting.data.prompts))
        witness = TokenWitness(self._earlier.tokens)
        runs = TimedRuns(session, setting, self._writer, self._hooks, self._namespace, witness)
        for number, planned_runs in itertools.groupby(todo, key=lambda planned: planned.round):
            for planned in planned_runs:
                await self._hooks.turn(planned)
                await self._run(runs, planned)
            if reason := self._hooks.after_round(number + 1):
                self.meta["stopped"] = {"rounds": number + 1, "reason": reason}
                break
        await self._hooks.over()

    async def _run(self, runs: TimedRuns, planned: PlannedRun) -> None:
        """One run, noted in run.json before it begins and after it ends."""
        entry = {"run": planned.run, "round": planned.round, "arm": planned.arm, "started": now(), "done": False}
        self.meta["runs"].append(entry)
        self._writer.write_meta(self.meta)
        self.meta["void_runs"] = [*self.meta["void_runs"], *await runs.carry_out(planned)]
        entry["done"] = True
        self._writer.write_meta(self.meta)
