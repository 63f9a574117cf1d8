"""The timed runs: one replay of all prompts by one arm in one cache state, each row written at once."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from harness.experiment.cache_state import PlannedRun
from harness.experiment.hooks import Hooks
from harness.experiment.plan import RECOMPUTE, Setting
from harness.experiment.rows import (
    TokenWitness,
    counters,
    kv_digest,
    load_reason,
    span_rows,
    timings,
)
from harness.experiment.session import Session
from harness.replay.lag import held_back_reason, lag_reason
from harness.replay.loops import closed_loop, open_loop
from harness.replay.neighbours import Kind, Neighbours
from harness.replay.outcome import Outcome
from harness.results import RunWriter
from harness.results.side_tables import append_neighbours
from harness.workloads.base import token_block

PROMPT_TOKENS = 16
"""Of a neighbour's prompt: too short to hit a chunk of any usual size, so it asks nothing of the store."""
DECODE_TOKENS = 512
"""A decoding neighbour begins anew after so many; its short prefill is no gap of its own."""


def neighbours_in(session: Session, setting: Setting) -> Neighbours:
    """Who else is served while a run is timed: what the experiment says, through the same session."""
    experiment, vocabulary = setting.experiment, setting.model.vocabulary
    longest = min(DECODE_TOKENS, setting.max_model_len - PROMPT_TOKENS)

    async def send(kind: Kind, number: int, heard: Callable[[float], None]) -> Outcome:
        tokens = token_block(f"neighbour/{kind}/{number}", PROMPT_TOKENS, vocabulary).tolist()
        wanted = longest if kind == "decode" else 1
        return await session.send(RECOMPUTE, tokens, wanted, "neighbours", hit=0, save=False, heard=heard)

    return Neighbours(send, experiment.neighbours, experiment.probe_every_s)


class TimedRuns:
    """Carries out planned runs one after the other."""

    def __init__(
        self, session: Session, setting: Setting, writer: RunWriter, hooks: Hooks, namespace: str, witness: TokenWitness
    ) -> None:
        """``namespace``: the primed one; natural runs get their own below it."""
        self._session = session
        self._setting = setting
        self._experiment = setting.experiment
        self._prompts = setting.data.prompts
        self._writer = writer
        self._hooks = hooks
        self._natural = setting.experiment.cache_state == "natural"
        self._namespace = namespace
        self._witness = witness
        self._void: list[dict[str, object]] = []

    async def carry_out(self, planned: PlannedRun) -> list[dict[str, object]]:
        """One run. When this returns its rows are on disk; what came out void is returned, as run.json has it."""
        namespace = f"{self._namespace}/run{planned.run}" if self._natural else self._namespace
        await self._session.begin_run(planned)
        page_cache: str = self._experiment.page_cache
        if page_cache != "dropped":
            page_cache = await asyncio.to_thread(self._warm, namespace)
        neighbours = neighbours_in(self._session, self._setting)
        async with neighbours.during():
            start = time.perf_counter()
            failed = await self._session.failed_blocks()
            await self._replay(planned, namespace, start, page_cache)
            self._judge_failures(planned, failed, await self._session.failed_blocks())
            if reason := await self._session.end_run(planned):
                self._note_void(planned, None, reason)
        self._note_neighbours(planned, neighbours, start)
        if self._natural:
            self._session.note_saves()
            every = [key for prompt in self._prompts for key in self._session.keys(prompt.tokens, namespace)]
            self._session.delete(every)
        void, self._void = self._void, []
        return void

    def _warm(self, namespace: str) -> str:
        """``warm`` if all chunks were brought into the page cache and the store can verify it; a natural run starts empty."""
        if not self._session.local:
            return "unknown"
        if self._natural:
            return "warm"
        keys = {
            key for prompt, hit in zip(self._prompts, self._setting.hits, strict=True)
            for key in self._session.keys(prompt.tokens[:hit], namespace)
        }  # fmt: skip
        return "warm" if self._session.keep_cached(sorted(keys)) else "unknown"

    async def _replay(self, planned: PlannedRun, namespace: str, start: float, page_cache: str) -> None:
        lags: list[float] = []
        ttfts: list[float] = []
        held: list[float] = []

        async def send(position: int, planned_at: float | None = None) -> None:
            row, held_back_s = await self._one(planned, position, namespace, start, page_cache, planned_at)
            held.append(held_back_s)
            lags.append(row["sent_s"] - row["planned_s"])
            if row["ttft_s"] is not None:
                ttfts.append(row["ttft_s"])

        if self._setting.times is None:
            await closed_loop(len(self._prompts), self._experiment.concurrency, send)
        else:
            await open_loop(self._setting.times, send)
        lagged = "" if self._setting.times is None else lag_reason(lags, ttfts)
        if reason := lagged or held_back_reason(held, ttfts):
            self._note_void(planned, None, reason)

    def _judge_failures(self, planned: PlannedRun, before: float | None, after: float | None) -> None:
        """Void the run during which loads failed at a server that doesn't say whose: it computed what counts as a hit."""
        if before is None or after is None:
            self._note_void(planned, None, "the server's /metrics did not say how many blocks could not be loaded")
        elif after != before:
            failed = f"{after - before:.0f} blocks could not be loaded at the server"
            self._note_void(planned, None, f"{failed}; only its span log says for whom")

    def _note_void(self, planned: PlannedRun, prompt: str | None, reason: str) -> None:
        self._void.append({"run": planned.run, "arm": planned.arm, "prompt": prompt, "reason": reason})

    def _note_neighbours(self, planned: PlannedRun, neighbours: Neighbours, start: float) -> None:
        """Keep what the neighbours went through; if one failed, the run was not the one that was asked for."""
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
            self._note_void(planned, None, f"a neighbour failed: {neighbours.errors[0]}")

    async def _one(
        self, planned: PlannedRun, position: int, namespace: str, start: float, page_cache: str, planned_at: float | None
    ) -> tuple[dict[str, Any], float]:
        """Send one prompt and write its row, which is returned with how long its first token was held back, in seconds."""
        prompt, session = self._prompts[position], self._session
        engine = self._setting.arms[planned.arm].engine
        stored = self._setting.hits[position] if engine.grants_hits else 0
        if self._experiment.page_cache == "dropped" and engine.loads_kv:
            dropped = await session.drop_page_cache(session.keys(prompt.tokens[:stored], namespace))
            page_cache = "dropped" if dropped else "unknown"
        label = f"{planned.run}/{position}"
        planned_s = (planned_at or time.perf_counter()) - start
        outcome = await session.send(
            planned.arm, prompt.tokens, prompt.output_tokens, namespace, hit=stored, save=self._natural, label=label
        )
        row = self._row(planned, position, outcome, label, namespace)
        row |= {"page_cache": page_cache, "planned_s": planned_s, "sent_s": outcome.sent_s - start}
        self._writer.append(row)
        if reason := row["void"] or row["error"]:
            self._note_void(planned, prompt.id, reason)
        self._hooks.done(planned.arm, row["ttft_s"])
        return row, outcome.held_back_s

    def _row(self, planned: PlannedRun, position: int, outcome: Outcome, label: str, namespace: str) -> dict[str, Any]:
        """The row as far as the request itself decides it; its spans are written."""
        prompt, log, logged = self._prompts[position], self._session.log, self._session.logged
        loads_kv = self._setting.arms[planned.arm].engine.loads_kv
        hit = self._setting.expected_hit(planned.arm, position, outcome.cached_tokens)
        log.poll()
        lookup, loads = log.lookup(label), log.loads(label)
        self._writer.append_spans(span_rows(planned.run, prompt.id, lookup, loads))
        digest = self._session.digest(outcome)
        void = self._session.hit_reason(planned.arm, position, hit, outcome.cached_tokens) or load_reason(
            loads, hit, loads_kv and logged, log.saved, self._session.keys(prompt.tokens[:hit], namespace),
            self._session.behind_window(prompt.tokens, hit, namespace),
        )  # fmt: skip
        if not void and loads_kv and self._experiment.one_by_one:
            void = self._witness.reason(prompt.id, hit, planned.arm, digest)
        return {
            "run": planned.run,
            "round": planned.round,
            "position": position,
            "arm": planned.arm,
            "cache_state": self._experiment.cache_state,
            "prompt": prompt.id,
            "prompt_tokens": len(prompt.tokens),
            "expected_hit_tokens": hit,
            "hit_tokens": outcome.cached_tokens,
            **timings(outcome, lookup, loads, logged),
            "output_tokens": outcome.output_tokens,
            **counters(loads),
            "how": (lookup or {}).get("how", ""),
            "why": (lookup or {}).get("why", ""),
            "output_digest": digest,
            "kv_digest": kv_digest(loads),
            "void": "" if outcome.error else void,
            "error": outcome.error,
        }
