"""The timed runs: one replay of all prompts by one arm in one cache state, each row written at once."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from harness.connector.peers.arm import PeerArm
from harness.connector.settings import Arm
from harness.experiment import rows
from harness.experiment import rows as proofs
from harness.experiment.cache_state import CacheState, PlannedRun
from harness.experiment.hooks import Progress
from harness.experiment.plan import Crowd
from harness.experiment.session import Session
from harness.replay.closed_loop import closed_loop
from harness.replay.lag import lag_reason
from harness.replay.neighbours import Neighbours
from harness.replay.open_loop import open_loop
from harness.replay.outcome import Outcome
from harness.results import RunWriter
from harness.results.side_tables import append_neighbours
from harness.workloads.base import Prompt


class TimedRuns:
    """Carries out planned runs one after the other."""

    def __init__(
        self,
        session: Session,
        arms: Mapping[str, Arm | PeerArm],
        prompts: Sequence[Prompt],
        hits: Sequence[int],
        writer: RunWriter,
        progress: Progress,
        *,
        cache_state: CacheState,
        page_cache: str,
        concurrency: int,
        schedule: Sequence[float] | None,
        crowd: Crowd,
        namespace: str,
        witness: proofs.TokenWitness,
    ) -> None:
        """``hits``: tokens that each prompt has to hit. ``schedule``: seconds at which each is sent, None in a closed loop.

        ``namespace``: the primed one; natural runs get their own below it.
        """
        self._session = session
        self._arms = arms
        self._prompts = prompts
        self._hits = hits
        self._writer = writer
        self._progress = progress
        self._natural = cache_state == "natural"
        self._cache_state = cache_state
        self._page_cache = page_cache
        self._concurrency = concurrency
        self._schedule = schedule
        self._crowd = crowd
        # Other requests in the batch change the numerics, so tokens can be held against each other only one by one.
        self._alone = concurrency == 1 and schedule is None and crowd.empty
        self._namespace = namespace
        self._witness = witness
        self.void: list[dict[str, object]] = []

    async def carry_out(self, planned: PlannedRun) -> None:
        """One run. Its rows are on disk when this returns; a void one is noted in ``void``."""
        namespace = f"{self._namespace}/run{planned.run}" if self._natural else self._namespace
        state = self._page_cache if self._page_cache == "dropped" else await asyncio.to_thread(self._warm_state, namespace)
        neighbours = self._crowd.gather(self._session)
        async with neighbours.during():
            start = time.perf_counter()
            await self._replay(planned, namespace, start, state)
        self._note_neighbours(planned, neighbours, start)
        if self._natural:
            self._session.note_saves()
            every = [key for prompt in self._prompts for key in self._session.keys(prompt.tokens, namespace)]
            self._session.delete(every)

    async def _replay(self, planned: PlannedRun, namespace: str, start: float, state: str) -> None:
        timings: list[tuple[float, float | None]] = []

        async def send(position: int, planned_at: float | None = None) -> None:
            timings.append(await self._one(planned, position, namespace, start, state, planned_at))

        if self._schedule is None:
            await closed_loop(len(self._prompts), self._concurrency, send)
        else:
            await open_loop(self._schedule, send)
            self._judge_lag(planned, timings)

    def _note_neighbours(self, planned: PlannedRun, neighbours: Neighbours, start: float) -> None:
        """Keep what the neighbours went through; where one failed, the run was not the one that was asked for."""
        who = {"run": planned.run, "round": planned.round, "arm": planned.arm}
        if neighbours.heard:
            append_neighbours(
                self._writer.path,
                [
                    who | {"kind": one.kind, "stream": one.stream, "at_s": one.at_s - start, "value_s": one.value_s}
                    for one in neighbours.heard
                ],
            )
        if neighbours.errors:
            self.void.append(who | {"prompt": None, "reason": f"a neighbour failed: {neighbours.errors[0]}"})

    def _judge_lag(self, planned: PlannedRun, timings: Sequence[tuple[float, float | None]]) -> None:
        """Void the run where requests left later than planned: the load was not the one that was asked for."""
        ttfts = [ttft for _, ttft in timings if ttft is not None]
        if reason := lag_reason([lag for lag, _ in timings], ttfts):
            self.void.append({"run": planned.run, "arm": planned.arm, "prompt": None, "reason": reason})

    def _warm_state(self, namespace: str) -> str:
        """``warm`` where all chunks were brought into the page cache and the store can tell; a natural run starts without any."""
        if not self._session.local:
            return "unknown"
        if self._natural:
            return "warm"
        keys = {
            key for prompt, hit in zip(self._prompts, self._hits, strict=True)
            for key in self._session.keys(prompt.tokens[:hit], namespace)
        }  # fmt: skip
        return "warm" if self._session.keep_cached(sorted(keys)) else "unknown"

    async def _one(
        self, planned: PlannedRun, position: int, namespace: str, start: float, page_cache: str, planned_at: float | None
    ) -> tuple[float, float | None]:
        """Send one prompt and write its row; returns the lag and the TTFT, in seconds."""
        prompt = self._prompts[position]
        arm = self._arms[planned.arm]
        hit = self._hits[position] if arm.engine.grants_hits else 0
        if self._page_cache == "dropped" and arm.engine.loads_kv:
            dropped = await self._session.drop_page_cache(self._session.keys(prompt.tokens[:hit], namespace))
            page_cache = "dropped" if dropped else "unknown"
        label = f"{planned.run}/{position}"
        planned_s = (planned_at or time.perf_counter()) - start
        outcome = await self._session.send(
            planned.arm, prompt.tokens, prompt.output_tokens, namespace, hit=hit, save=self._natural, label=label
        )
        row = self._row(planned, position, outcome, hit, label, self._session.keys(prompt.tokens[:hit], namespace))
        row |= {"page_cache": page_cache, "planned_s": planned_s, "sent_s": outcome.sent_s - start}
        self._writer.append(row)
        reason = row["void"] or row["error"]
        if reason:
            self.void.append({"run": planned.run, "arm": planned.arm, "prompt": prompt.id, "reason": reason})
        ttft_s = row["ttft_s"] if isinstance(row["ttft_s"], float) else None
        self._progress.done(planned.arm, ttft_s)
        return outcome.sent_s - start - planned_s, ttft_s

    def _row(
        self, planned: PlannedRun, position: int, outcome: Outcome, hit: int, label: str, keys: Sequence[str]
    ) -> dict[str, object]:
        prompt = self._prompts[position]
        engine = self._arms[planned.arm].engine
        log = self._session.log
        log.poll()
        lookup, loads = log.lookup(label), log.loads(label)
        self._writer.append_spans(rows.span_rows(planned.run, prompt.id, lookup, loads))
        digest = proofs.tokens_digest(outcome.tokens)
        void = proofs.hit_reason(hit, outcome.cached_tokens)
        void = void or proofs.load_reason(loads, hit, engine.loads_kv and self._session.logged, log.saved, keys)
        if not void and engine.loads_kv and self._alone:
            void = self._witness.reason(prompt.id, planned.arm, digest)
        return {
            "run": planned.run,
            "round": planned.round,
            "position": position,
            "arm": planned.arm,
            "cache_state": self._cache_state,
            "prompt": prompt.id,
            "prompt_tokens": len(prompt.tokens),
            "expected_hit_tokens": hit,
            "hit_tokens": outcome.cached_tokens,
            **rows.timings(outcome, lookup, loads, self._session.logged),
            "output_tokens": len(outcome.tokens),
            **rows.counters(loads),
            "output_digest": digest,
            "kv_digest": proofs.kv_digest(loads),
            "void": "" if outcome.error else void,
            "error": outcome.error,
        }
