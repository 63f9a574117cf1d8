"""The whole of an experiment, from an empty folder to a finished one. ``measure`` is the entry."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from harness.connector.peers.arm import PeerArm
from harness.core.errors import RunError, TtftError, UsageError
from harness.experiment import correctness
from harness.experiment.at_peer import PeerSession, place_of, session_with_peer, told
from harness.experiment.at_server import AtServer, session_at_server
from harness.experiment.cache_state import PlannedRun, schedule
from harness.experiment.engine_settings import engine_settings, peer_settings
from harness.experiment.hooks import AtOnce, NoWatch, Progress, Turns, Watch
from harness.experiment.plan import RECOMPUTE, Setting
from harness.experiment.record import NOTHING, Earlier, declared, now, recorded
from harness.experiment.rows import TokenWitness
from harness.experiment.session import Session, loading_arms
from harness.experiment.timed import TimedRuns
from harness.replay.prometheus import Scraper
from harness.results import RunWriter
from harness.results.side_tables import append_metrics
from harness.stores import Store, open_store


def measure(
    setting: Setting,
    folder: Path,
    command: str,
    progress: Progress,
    earlier: Earlier = NOTHING,
    watch: Watch | None = None,
    turns: Turns | None = None,
) -> dict[str, Any]:
    """Carry the experiment out and return the run's meta data, as in run.json.

    ``earlier``: what a resumed folder already holds. ``watch`` may end it between two rounds.
    ``turns`` says when each run may begin. Raises TtftError; whatever ends it, the rows measured so
    far are on disk, run.json says ``partial``, vLLM is stopped and the store cleaned.
    """
    with open_store(setting.experiment.store) as store:
        writer = RunWriter(folder)
        conductor = Conductor(setting, folder, command, progress, store, writer, earlier, watch or NoWatch(), turns or AtOnce())
        try:
            with recorded(conductor.meta, writer):
                asyncio.run(conductor.conduct())
        finally:
            writer.close()
    return conductor.meta


class Conductor:
    """One experiment under way."""

    def __init__(
        self,
        setting: Setting,
        folder: Path,
        command: str,
        progress: Progress,
        store: Store,
        writer: RunWriter,
        earlier: Earlier,
        watch: Watch,
        turns: Turns,
    ) -> None:
        self._setting = setting
        self._folder = folder
        self._progress = progress
        self._store = store
        self._writer = writer
        self._earlier = earlier
        self._watch = watch
        self._turns = turns
        self._namespace = f"{folder.name}-{time.time_ns():x}"
        self.meta: dict[str, Any] = {**declared(setting, folder.name, command), **watch.declared, **earlier.meta}

    async def conduct(self) -> None:
        """All stages."""
        experiment = self._setting.experiment
        chosen = correctness.choose(self._setting.data.prompts, self._setting.hits, experiment.correctness_prompts)
        if experiment.target:
            self._progress.stage(f"connecting to {experiment.target}")
            async with session_at_server(self._setting, self._store) as there:
                await self._at_server(there, chosen)
            return
        if self._setting.peers:
            await self._at_peer(chosen)
            return
        if chosen and self._setting.dtype != "float32":
            await self._correctness_apart(chosen)
        self._progress.stage(f"starting vLLM ({self._setting.dtype})")
        async with self._session(self._setting.dtype, experiment.kv_cache_gib) as session:
            await self._stages(session, chosen)

    async def _at_server(self, there: AtServer, chosen: list[Any]) -> None:
        """The same stages, and the server's own metrics beside them."""
        self.meta["server"] = dict(there.told)
        notes = self.meta["data"]["notes"]
        notes.extend(there.notes)
        if chosen and self._setting.dtype != "float32":
            self.meta["correctness"]["detail"] = f"the server computes in {self._setting.dtype}"
            notes.append(f"No correctness pass: the server computes in {self._setting.dtype}, and only float32 can show it.")
        scraper = Scraper(there.engine.http, there.engine.target.url, lambda rows: append_metrics(self._folder, rows))
        async with scraper.during():
            if scraper.others:
                notes.append(
                    f"The server was serving {scraper.others:.0f} other requests at the start: TTFT holds their load too."
                )
            await self._stages(there.session, chosen)
        if scraper.errors:
            self.meta["warnings"].append(f"{len(scraper.errors)} readings of the server's /metrics failed: {scraper.errors[0]}")

    async def _at_peer(self, chosen: list[Any]) -> None:
        """The same stages with another connector than ours."""
        arm, *others = self._setting.arms.values()
        if others or not isinstance(arm, PeerArm):
            raise UsageError(f"the arm {self._setting.peers[0].name} needs a vLLM of its own: measure it by ttft compare")
        peer = arm.at(place_of(self._setting, self._folder))
        self._progress.stage(f"starting vLLM ({self._setting.dtype}) with {arm.name}")
        async with session_with_peer(peer_settings(self._setting, peer), peer, self._store, self._folder) as session:
            if chosen and self._setting.dtype == "float32":
                self._progress.stage(f"correctness pass: {len(chosen)} prompts, computed and then loaded")
                self.meta["correctness"] = await correctness.check_peer(session, arm.name, chosen, self._setting.model.vocabulary)
            await self._stages(session, [])

    async def _stages(self, session: Session, chosen: list[Any]) -> None:
        """From priming on."""
        start = session.log.start
        self.meta |= {"geometry": start.get("geometry", {}), "direct_reads": start.get("direct")}
        self.meta["binding"] |= {"torch_threads": start["torch_threads"]} if "torch_threads" in start else {}
        self._progress.stage(f"priming the store with {self._setting.primed_chunks} chunks")
        await session.prime(self._heads(session), self._namespace)
        if chosen and self._setting.dtype == "float32":
            await self._correctness_here(session, chosen)
        await self._warm_up(session)
        if isinstance(session, PeerSession):
            self.meta["peer"] = told(session)
        self._writer.write_meta(self.meta)  # whoever gives out the turns reads there what was found so far
        await self._timed_runs(session)

    def _heads(self, session: Session) -> list[tuple[int, ...]]:
        """What has to be computed before the timed runs; whole prompts for a peer that hits nothing less."""
        if not isinstance(session, PeerSession) or not session.peer.primes_prompts:
            return self._setting.heads
        return [prompt.tokens for prompt, hit in zip(self._setting.data.prompts, self._setting.hits, strict=True) if hit]

    @contextlib.asynccontextmanager
    async def _session(self, dtype: str, kv_cache_gib: float) -> AsyncIterator[Session]:
        experiment = self._setting.experiment
        settings = engine_settings(self._setting, dtype, kv_cache_gib, self._folder / "span_log", save=False)
        session = Session.start(settings, self._store, self._folder, experiment.chunk_tokens)
        try:
            yield session
        finally:
            session.close(keep_store=experiment.keep_store)

    async def _correctness_apart(self, chosen: list[Any]) -> None:
        self._progress.stage("starting vLLM (float32) for the correctness pass")
        # float32 KV is twice as large; the pass runs one request at a time, so the cache need not be.
        async with self._session("float32", self._setting.experiment.kv_cache_gib) as session:
            await self._correctness_here(session, chosen)

    async def _correctness_here(self, session: Session, chosen: list[Any]) -> None:
        self._progress.stage(f"correctness pass: {len(chosen)} prompts by every arm")
        namespace = f"{self._namespace}-correctness"
        await session.prime([prompt.tokens[:hit] for prompt, hit in chosen], namespace)
        try:
            self.meta["correctness"] = await correctness.check(session, self._setting.arms, chosen, namespace)
        except TtftError as error:
            self.meta["correctness"] = {"status": "failed", "detail": str(error)}
            raise
        self._writer.write_meta(self.meta)
        session.delete([key for prompt, hit in chosen for key in session.keys(prompt.tokens[:hit], namespace)])

    async def _warm_up(self, session: Session) -> None:
        """Every arm serves prompts of its own before anything is timed."""
        tokens, hit = self._setting.warmup
        namespace = f"{self._namespace}-warm-up"
        self._progress.stage("warming up")
        if hit and loading_arms(self._setting.arms):
            await session.prime([session.head(tokens, hit)], namespace)
        for _ in range(self._setting.experiment.warmup):
            for arm in self._setting.arms:
                if arm == RECOMPUTE:
                    continue
                outcome = await session.send(arm, tokens, 2, namespace, hit=hit, save=False)
                if outcome.error:
                    raise RunError(f"warming up failed in arm {arm}: {outcome.error}")
        session.delete(session.keys(tokens, namespace))

    async def _timed_runs(self, session: Session) -> None:
        experiment, setting = self._setting.experiment, self._setting
        plan = schedule(list(setting.arms), experiment.pairs, [RECOMPUTE], experiment.recompute_rounds)
        todo = self._earlier.left_of(plan)
        self._progress.expect(len(todo) * len(setting.data.prompts))
        runs = TimedRuns(
            session,
            setting.arms,
            setting.data.prompts,
            setting.hits,
            self._writer,
            self._progress,
            cache_state=experiment.cache_state,
            page_cache=experiment.page_cache,
            concurrency=experiment.concurrency,
            schedule=setting.schedule,
            crowd=setting.crowd,
            namespace=self._namespace,
            witness=TokenWitness(self._earlier.tokens),
        )
        for pair, planned in itertools.groupby(todo, key=lambda run: run.round):
            await self._round(runs, planned)
            if reason := self._watch.after_round(pair + 1):
                self.meta["stopped"] = {"rounds": pair + 1, "reason": reason}
                break
        await self._turns.over()

    async def _round(self, runs: TimedRuns, planned_runs: Iterable[PlannedRun]) -> None:
        """One run of each arm, noted in run.json before it begins and after it ends."""
        async for planned in self._turns.of(planned_runs):
            self.meta["runs"].append(
                {"run": planned.run, "round": planned.round, "arm": planned.arm, "started": now(), "done": False}
            )
            self._writer.write_meta(self.meta)
            await runs.carry_out(planned)
            self.meta["runs"][-1]["done"] = True
            self.meta["void_runs"] = [*self.meta["void_runs"], *runs.void]
            runs.void.clear()
            self._writer.write_meta(self.meta)
